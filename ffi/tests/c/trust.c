/* Steps about keys, statements and policies. */
#define _GNU_SOURCE
#include "cases.h"

#include <stdlib.h>
#include <string.h>

static void write_file(const char *name, const char *ending, const char *how, lxi_buffer *content) {
    char path[256];
    lxi_bytes bytes;
    snprintf(path, sizeof path, "%s%s", name, ending);
    FILE *file = fopen(path, how);
    if (file == NULL || lxi_buffer_get(content, &bytes, NULL) != LXI_OK || fwrite(bytes.data, 1, bytes.len, file) != bytes.len)
        broken("a file can't be written", path);
    fclose(file);
    lxi_buffer_free(content);
}

static void end_keys(struct trust *trust) {
    for (size_t i = 0; i < trust->count; i++)
        lxi_secret_key_free(trust->key[i].secret);
    trust->count = 0;
}

void end_trust(struct place *place) {
    end_keys(&place->trust);
    lxi_policy_free(place->trust.policy);
    place->trust.policy = NULL;
}

/* No secret may be told. */
static void check_secret(const lxi_error *error, lxi_str passphrase) {
    lxi_error_info info = {.size = sizeof info};
    if (error == NULL || passphrase.len == 0)
        return;
    lxi_error_get(error, &info);
    if (memmem(info.message.data, info.message.len, passphrase.data, passphrase.len) != NULL)
        broken("an error tells a secret", "");
}

static void key(struct place *place, const struct words *words) {
    lxi_secret_key *secret = NULL;
    lxi_public_key *public = NULL, *again = NULL;
    lxi_buffer *text = NULL;
    lxi_bytes bytes;
    lxi_error *error = NULL;
    lxi_str id, name = word(words, 1), file = word(words, 2), passphrase = {0};
    if (words->count > 3)
        passphrase = word(words, 3);
    lxi_status status = is(file, "-") ? lxi_secret_key_generate(&secret, &error)
                                      : lxi_secret_key_read(file, bytes_of(passphrase), &secret, &error);
    check_secret(error, passphrase);
    if (failed(status, &error))
        return;
    if (is(file, "-")) {
        /* What is written is read again. */
        lxi_secret_key *parsed = NULL;
        if (lxi_secret_key_to_text(secret, (lxi_bytes){0}, &text, NULL) != LXI_OK || lxi_buffer_get(text, &bytes, NULL) != LXI_OK ||
            lxi_secret_key_parse(bytes, (lxi_bytes){0}, &parsed, NULL) != LXI_OK)
            broken("a key can't be written and read", "");
        lxi_buffer_free(text);
        lxi_secret_key_free(secret);
        secret = parsed;
    }
    if (lxi_secret_key_public(secret, &public, NULL) != LXI_OK || lxi_public_key_id(public, &id, NULL) != LXI_OK)
        broken("a key without a public key", "");
    if (!is(file, "-"))
        line("%.*s", (int)id.len, id.data);
    if (lxi_public_key_to_text(public, &text, NULL) != LXI_OK || lxi_buffer_get(text, &bytes, NULL) != LXI_OK ||
        lxi_public_key_parse(bytes, &again, NULL) != LXI_OK)
        broken("a public key can't be written and read", "");
    write_file(chars(name), ".pub", "w", text);
    lxi_public_key_free(public);
    lxi_public_key_free(again);
    if (place->trust.count == MOST_KEYS)
        broken("too many keys", "");
    snprintf(place->trust.key[place->trust.count].name, sizeof place->trust.key->name, "%s", chars(name));
    place->trust.key[place->trust.count++].secret = secret;
}

static size_t secret_keys(const struct place *place, lxi_str names, const lxi_secret_key **keys) {
    size_t count = 0;
    char copy[256], *rest, *name;
    if (is(names, "-"))
        return 0;
    snprintf(copy, sizeof copy, "%s", chars(names));
    for (name = strtok_r(copy, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest))
        for (size_t i = 0; i < place->trust.count; i++)
            if (strcmp(place->trust.key[i].name, name) == 0)
                keys[count++] = place->trust.key[i].secret;
    return count;
}

static void show_statements(lxi_statements *statements) {
    size_t count = 0;
    lxi_statements_len(statements, &count, NULL);
    for (size_t i = 0; i < count; i++) {
        lxi_statement statement = {.size = sizeof statement};
        if (lxi_statements_at(statements, i, &statement, NULL) != LXI_OK || statement.envelope.len == 0)
            broken("a statement is missing", "");
        printf("= statement %.*s", (int)statement.digest.len, statement.digest.data);
        quote_str(statement.predicate_type);
        quote_str(statement.predicate);
        line_end();
    }
}

/* `at` is where the fingerprint stands in the words. */
static void sign(struct place *place, const struct words *words, size_t at) {
    const lxi_secret_key *keys[MOST_KEYS];
    lxi_statement_options options = {.size = sizeof options, .monitor = &place->monitor};
    lxi_statements *signed_ = NULL;
    lxi_error *error = NULL;
    lxi_fingerprint fingerprint;
    const lxi_fingerprint *of;
    size_t count = secret_keys(place, word(words, at + 1), keys);
    if (words->count > at + 2) {
        options.predicate_type = word(words, at + 2);
        options.predicate = bytes_of(word(words, at + 3));
    }
    if (fingerprint_of(word(words, at), &fingerprint, &of))
        return;
    lxi_status status = at == 1 ? lxi_store_sign(place->store, of, keys, count, &options, &signed_, &error)
                                : lxi_statement_sign(of, keys, count, &options, &signed_, &error);
    if (failed(status, &error))
        return;
    show_statements(signed_);
    if (at == 2) {
        lxi_buffer *bundle = NULL;
        lxi_statements_bundle(signed_, &bundle, NULL);
        write_file(chars(word(words, 1)), "", "a", bundle);
    }
    lxi_statements_free(signed_);
}

/* The statements of a file, NULL for `-`; returns 1 after an error was shown. */
static int bundle(struct place *place, lxi_str name, lxi_statements **found) {
    static char content[64 << 10];
    lxi_error *error = NULL;
    *found = NULL;
    if (is(name, "-"))
        return 0;
    FILE *file = fopen(chars(name), "r");
    if (file == NULL)
        broken("a file can't be opened", chars(name));
    size_t len = fread(content, 1, sizeof content, file);
    fclose(file);
    return failed(lxi_statements_parse((lxi_bytes){(const uint8_t *)content, len}, place->limits, found, &error), &error);
}

static void verify(struct place *place, const struct words *words) {
    lxi_public_key *keys[MOST_KEYS];
    lxi_statements *statements = NULL;
    lxi_error *error = NULL;
    lxi_fingerprint fingerprint;
    const lxi_fingerprint *of;
    char copy[256], path[300], *rest, *name;
    size_t count = 0, found = 0, one_by_one = 0, all = 0;
    snprintf(copy, sizeof copy, "%s", chars(word(words, 3)));
    for (name = strtok_r(copy, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest)) {
        snprintf(path, sizeof path, "%s.pub", name);
        if (lxi_public_key_read((lxi_str){path, strlen(path)}, &keys[count++], NULL) != LXI_OK)
            broken("a public key can't be read", path);
    }
    lxi_str kind = is(word(words, 2), "-") ? (lxi_str){0} : word(words, 2);
    if (!fingerprint_of(word(words, 1), &fingerprint, &of) && !failed(lxi_store_statements(place->store, of, &statements, &error), &error)) {
        const lxi_public_key *const *given = (const lxi_public_key *const *)keys;
        if (!failed(lxi_statements_verify(statements, of, kind, given, count, &found, &error), &error)) {
            line("signed %zu", found);
            lxi_statements_len(statements, &all, NULL);
            for (size_t i = 0; i < all; i++) {
                bool yes = false, any = false;
                for (size_t k = 0; k < count; k++) {
                    lxi_statements_signed_by(statements, i, of, keys[k], &yes, NULL);
                    any = any || yes;
                }
                one_by_one += any;
            }
            if (kind.len == 0 && one_by_one != found)
                broken("signatures are counted otherwise one by one", "");
        }
    }
    lxi_statements_free(statements);
    while (count > 0)
        lxi_public_key_free(keys[--count]);
}

static void show_admission(lxi_admission *admission, int with_time) {
    lxi_admission_info info = {.size = sizeof info};
    lxi_str sentence;
    lxi_admission_get(admission, &info, NULL);
    if (!info.admitted) {
        line("not asked");
    } else {
        fputs("= rule", stdout);
        quote_str(info.rule);
        line_end();
        for (size_t i = 0; i < info.vouched; i++) {
            lxi_admission_vouched_at(admission, i, &sentence, NULL);
            fputs("= vouched", stdout);
            quote_str(sentence);
            line_end();
        }
        if (with_time)
            line("at %lld", (long long)info.admitted_at);
    }
    lxi_admission_free(admission);
}

static void policy(struct place *place, lxi_str text) {
    lxi_policy *parsed = NULL, *read = NULL;
    lxi_error *error = NULL;
    if (failed(lxi_policy_parse(text, LXI_STR("."), NULL, &parsed, &error), &error))
        return;
    FILE *file = fopen("policy.toml", "w");
    if (file == NULL || fwrite(text.data, 1, text.len, file) != text.len)
        broken("the policy can't be written", "");
    fclose(file);
    /* The one that is read is the one that is used. */
    if (lxi_policy_read(LXI_STR("policy.toml"), NULL, &read, NULL) != LXI_OK)
        broken("the policy can't be read", "");
    lxi_policy_free(parsed);
    lxi_policy_free(place->trust.policy);
    place->trust.policy = read;
}

static void judge(struct place *place, const struct words *words) {
    static const lxi_pair properties[] = {{{"os", 2}, {"Debian", 6}}};
    lxi_str aliases[8];
    lxi_candidate candidate = {.size = sizeof candidate, .aliases = aliases, .properties = properties, .properties_len = 1};
    lxi_statements *statements = NULL;
    lxi_admission *admission = NULL;
    lxi_error *error = NULL;
    lxi_fingerprint fingerprint;
    char copy[256], *rest, *name;
    if (fingerprint_of(word(words, 1), &fingerprint, &candidate.fingerprint) || bundle(place, word(words, 3), &statements))
        return;
    snprintf(copy, sizeof copy, "%s", chars(word(words, 2)));
    for (name = strtok_r(copy, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest))
        if (strcmp(name, "-") != 0)
            aliases[candidate.aliases_len++] = (lxi_str){name, strlen(name)};
    candidate.statements = statements;
    if (!failed(lxi_policy_admit(place->trust.policy, &candidate, &admission, &error), &error))
        show_admission(admission, 0);
    lxi_statements_free(statements);
}

static void import_stated(struct place *place, const struct words *words) {
    lxi_import_options options = {.size = sizeof options, .monitor = &place->monitor};
    lxi_statements *statements = NULL;
    lxi_stored_image *image = NULL;
    lxi_error *error = NULL;
    struct files files;
    if (bundle(place, word(words, 1), &statements))
        return;
    options.statements = statements;
    open_files(&files, words, 2);
    lxi_input *second = files.count > 1 ? &files.input[1] : NULL;
    if (!failed(lxi_store_import(place->store, &files.input[0], second, &options, &image, &error), &error))
        show_image(image);
    close_files(&files);
    lxi_statements_free(statements);
}

/* The steps about one image of the store. */
static int image_of_store_step(struct place *place, const struct words *words) {
    lxi_str name = word(words, 0);
    lxi_error *error = NULL;
    lxi_fingerprint fingerprint;
    const lxi_fingerprint *of;
    lxi_statements *statements = NULL;
    lxi_admission *admission = NULL;
    if (!is(name, "attach") && !is(name, "statements") && !is(name, "ask") && !is(name, "vouched"))
        return 0;
    if (fingerprint_of(word(words, 1), &fingerprint, &of))
        return 1;
    if (is(name, "attach")) {
        if (!bundle(place, word(words, 2), &statements))
            failed(lxi_store_attach_statements(place->store, of, statements, &error), &error);
    } else if (is(name, "statements")) {
        if (!failed(lxi_store_statements(place->store, of, &statements, &error), &error))
            show_statements(statements);
    } else if (is(name, "ask")) {
        if (!failed(lxi_store_ask_policy(place->store, place->trust.policy, of, &admission, &error), &error))
            show_admission(admission, 0);
    } else if (!failed(lxi_store_vouched(place->store, of, &admission, &error), &error)) {
        show_admission(admission, 1);
    }
    lxi_statements_free(statements);
    return 1;
}

int trust_step(struct place *place, const struct words *words) {
    lxi_str name = word(words, 0);
    if (is(name, "key"))
        key(place, words);
    else if (is(name, "sign"))
        sign(place, words, 1);
    else if (is(name, "sign-file"))
        sign(place, words, 2);
    else if (is(name, "signed"))
        verify(place, words);
    else if (is(name, "policy"))
        policy(place, word(words, 1));
    else if (is(name, "judge"))
        judge(place, words);
    else if (is(name, "import-stated"))
        import_stated(place, words);
    else
        return image_of_store_step(place, words);
    return 1;
}
