/* Steps about a store. */
#define _GNU_SOURCE
#include "cases.h"

#include <stdlib.h>
#include <string.h>

static const char *yes(bool truth) {
    return truth ? "yes" : "no";
}

int64_t clock_of(void *user) {
    return *(int64_t *)user;
}

void show_image(lxi_stored_image *image) {
    lxi_stored_image_info info = {.size = sizeof info};
    if (lxi_stored_image_get(image, &info, NULL) != LXI_OK)
        broken("an image says nothing", "");
    fputs("= image ", stdout);
    show_fingerprint(&info.fingerprint);
    line_end();
    printf("= type %s form %s architecture", info.image_type == LXI_TYPE_CONTAINER ? "container" : "virtual-machine",
           info.form == LXI_FORM_UNIFIED ? "unified" : "split");
    quote_str(info.architecture);
    printf(" bytes %llu rootfs %llu\n", (unsigned long long)info.bytes, (unsigned long long)info.rootfs_bytes);
    line("created %lld expires %lld uploaded %lld used %lld", (long long)info.created_at, (long long)info.expires_at,
         (long long)info.uploaded_at, (long long)info.last_used_at);
    line("public %s cached %s auto_update %s revision %llu", yes(info.is_public), yes(info.cached), yes(info.auto_update),
         (unsigned long long)info.revision);
    lxi_str key, value;
    for (size_t i = 0; i < info.aliases; i++) {
        lxi_stored_image_alias_at(image, i, &key, &value, NULL);
        fputs("= alias", stdout);
        quote_str(key);
        quote_str(value);
        line_end();
    }
    for (size_t i = 0; i < info.properties; i++) {
        lxi_stored_image_property_at(image, i, &key, &value, NULL);
        fputs("= property", stdout);
        quote_str(key);
        quote_str(value);
        line_end();
    }
    lxi_buffer *json = NULL;
    if (lxi_stored_image_to_json(image, &json, NULL) != LXI_OK)
        broken("an image can't be written as JSON", "");
    lxi_buffer_free(json);
    lxi_stored_image_free(image);
}

static void import(struct place *place, const struct words *words) {
    lxi_alias aliases[8];
    lxi_import_options options = {.size = sizeof options, .aliases = aliases, .monitor = &place->monitor};
    for (const char *flag = chars(word(words, 1)); *flag != '\0'; flag++)
        options.flags |= *flag == 'p'   ? LXI_IMPORT_PUBLIC
                         : *flag == 'c' ? LXI_IMPORT_CACHED
                         : *flag == 'r' ? LXI_IMPORT_REUSE_ALIASES
                         : *flag == 'a' ? LXI_IMPORT_ADD_ALIASES
                                        : 0;
    if (!is(word(words, 2), "-")) {
        const char *name = chars(word(words, 2)), *comma;
        do {
            comma = strchrnul(name, ',');
            aliases[options.aliases_len++] = (lxi_alias){.name = {name, (size_t)(comma - name)}};
            name = comma + 1;
        } while (*comma != '\0');
    }
    struct files files;
    lxi_stored_image *image = NULL;
    lxi_error *error = NULL;
    open_files(&files, words, 3);
    lxi_input *second = files.count > 1 ? &files.input[1] : NULL;
    if (!failed(lxi_store_import(place->store, &files.input[0], second, &options, &image, &error), &error))
        show_image(image);
    close_files(&files);
}

static void explain(struct place *place, const struct words *words) {
    lxi_near_misses *misses = NULL;
    lxi_error *error = NULL;
    size_t count = 0, reasons = 0;
    if (failed(lxi_store_explain(place->store, &words->word[1], words->count - 1, &misses, &error), &error))
        return;
    lxi_near_misses_len(misses, &count, NULL);
    for (size_t i = 0; i < count; i++) {
        lxi_stored_image *image = NULL;
        lxi_stored_image_info info = {.size = sizeof info};
        lxi_near_misses_at(misses, i, &image, &reasons, NULL);
        lxi_stored_image_get(image, &info, NULL);
        fputs("= miss ", stdout);
        show_fingerprint(&info.fingerprint);
        line_end();
        lxi_stored_image_free(image);
        for (size_t j = 0; j < reasons; j++) {
            lxi_str reason;
            lxi_near_misses_reason_at(misses, i, j, &reason, NULL);
            fputs("= reason", stdout);
            quote_str(reason);
            line_end();
        }
    }
    lxi_near_misses_free(misses);
}

static void edit(struct place *place, const lxi_fingerprint *fingerprint, const struct words *words) {
    lxi_pair set[8];
    lxi_str removed[8];
    lxi_edit edit = {.size = sizeof edit, .properties = set, .remove = removed};
    for (size_t i = 2; i < words->count; i++) {
        lxi_str change = word(words, i);
        const char *text = chars(change), *equals = strchr(text, '=');
        if (is(change, "public"))
            edit.flags |= LXI_EDIT_PUBLIC;
        else if (is(change, "private"))
            edit.flags |= LXI_EDIT_PRIVATE;
        else if (*text == '-')
            removed[edit.remove_len++] = (lxi_str){text + 1, change.len - 1};
        else if (strncmp(text, "expires:", 8) == 0) {
            edit.flags |= LXI_EDIT_EXPIRES_AT;
            edit.expires_at = strtoll(text + 8, NULL, 10);
        } else if (strncmp(text, "etag:", 5) == 0)
            edit.etag = (lxi_str){text + 5, change.len - 5};
        else
            set[edit.properties_len++] = (lxi_pair){{text, (size_t)(equals - text)}, {equals + 1, change.len - (size_t)(equals - text) - 1}};
    }
    lxi_stored_image *image = NULL;
    lxi_error *error = NULL;
    if (!failed(lxi_store_edit(place->store, fingerprint, &edit, &image, &error), &error))
        show_image(image);
}

static void list(struct place *place, const struct words *words) {
    lxi_image_list *images = NULL;
    lxi_error *error = NULL;
    if (failed(lxi_store_list(place->store, &words->word[1], words->count - 1, &images, &error), &error))
        return;
    size_t count = 0;
    lxi_image_list_len(images, &count, NULL);
    for (size_t i = 0; i < count; i++) {
        lxi_stored_image *image = NULL;
        lxi_stored_image_info info = {.size = sizeof info};
        lxi_image_list_at(images, i, &image, NULL);
        lxi_stored_image_get(image, &info, NULL);
        fputs("= ", stdout);
        show_fingerprint(&info.fingerprint);
        line_end();
        lxi_stored_image_free(image);
    }
    lxi_image_list_free(images);
}

static void aliases(struct place *place) {
    lxi_alias_list *found = NULL;
    lxi_error *error = NULL;
    if (failed(lxi_store_aliases(place->store, &found, &error), &error))
        return;
    size_t count = 0;
    lxi_alias_list_len(found, &count, NULL);
    for (size_t i = 0; i < count; i++) {
        lxi_alias alias;
        lxi_fingerprint target;
        lxi_alias_list_at(found, i, &alias, &target, NULL);
        begin();
        quote_str(alias.name);
        quote_str(alias.description);
        putchar(' ');
        show_fingerprint(&target);
        lxi_image_type of = 0;
        lxi_alias_list_type_at(found, i, &of, NULL);
        printf(" %s", of == LXI_TYPE_CONTAINER ? "container" : "virtual-machine");
        line_end();
    }
    lxi_alias_list_free(found);
}

static lxi_status hash(void *user, const uint8_t *data, size_t length) {
    return lxi_hasher_update(user, (lxi_bytes){data, length}, NULL);
}

static void export_to(struct place *place, const lxi_fingerprint *of) {
    lxi_hasher *hasher = NULL;
    lxi_error *error = NULL;
    uint64_t written = 0, seen = 1;
    lxi_hasher_new(&hasher, NULL);
    if (!failed(lxi_store_export_to(place->store, of, hash, hasher, &place->monitor, &written, &error), &error)) {
        lxi_fingerprint fingerprint;
        lxi_hasher_get(hasher, &fingerprint, &seen, NULL);
        if (seen != written)
            broken("other bytes were written than were told", "");
        fputs("= ", stdout);
        show_fingerprint(&fingerprint);
        line_end();
    }
    lxi_hasher_free(hasher);
}

static void export(struct place *place, const lxi_fingerprint *of, lxi_str target) {
    lxi_exported *exported = NULL;
    lxi_error *error = NULL;
    lxi_str path;
    if (failed(lxi_store_export(place->store, of, target, &place->monitor, &exported, &error), &error))
        return;
    for (size_t i = 0; lxi_exported_file_at(exported, i, &path, NULL) == LXI_OK; i++) {
        const char *slash = memrchr(path.data, '/', path.len);
        begin();
        quote_str(slash == NULL ? path : (lxi_str){slash + 1, (size_t)(path.data + path.len - slash - 1)});
        line_end();
    }
    lxi_exported_free(exported);
}

static void open_stored(struct place *place, const lxi_fingerprint *of) {
    lxi_image *image = NULL;
    lxi_verify_options options = {.size = sizeof options, .monitor = &place->monitor};
    lxi_verify_report *verification = NULL;
    lxi_error *error = NULL;
    if (!failed(lxi_store_open_image(place->store, of, place->limits, &image, &error), &error) &&
        !failed(lxi_image_verify(image, &options, &verification, &error), &error))
        show_verification(verification, 0);
    lxi_verify_report_free(verification);
    lxi_image_free(image);
}

static void prune(struct place *place, lxi_str seconds) {
    lxi_prune_options options = {.size = sizeof options, .flags = LXI_PRUNE_UNUSED_FOR, .unused_for_seconds = strtoull(chars(seconds), NULL, 10)};
    lxi_pruned *pruned = NULL;
    lxi_error *error = NULL;
    size_t count = 0;
    uint64_t bytes = 0;
    if (failed(lxi_store_prune(place->store, &options, &pruned, &count, &bytes, &error), &error))
        return;
    for (size_t i = 0; i < count; i++) {
        lxi_stored_image *image = NULL;
        lxi_stored_image_info info = {.size = sizeof info};
        lxi_removed why = 0;
        lxi_pruned_at(pruned, i, &image, &why, NULL);
        lxi_stored_image_get(image, &info, NULL);
        printf("= %s ", why == LXI_REMOVED_EXPIRED ? "expired" : "unused");
        show_fingerprint(&info.fingerprint);
        line_end();
        lxi_stored_image_free(image);
    }
    line("bytes %llu", (unsigned long long)bytes);
    lxi_pruned_free(pruned);
}

static void check(struct place *place, uint32_t flags) {
    lxi_check_options options = {.size = sizeof options, .flags = flags, .monitor = &place->monitor};
    lxi_check_report *report = NULL;
    lxi_error *error = NULL;
    if (failed(lxi_store_check(place->store, &options, &report, &error), &error))
        return;
    lxi_check_info info = {.size = sizeof info};
    lxi_check_report_get(report, &info, NULL);
    line("images %llu bytes %llu", (unsigned long long)info.images, (unsigned long long)info.bytes);
    for (size_t i = 0; i < info.findings; i++) {
        lxi_finding finding = {.size = sizeof finding};
        lxi_check_report_finding_at(report, i, &finding, NULL);
        line("finding %u", finding.kind);
    }
    for (size_t i = 0; i < info.unrepaired; i++) {
        lxi_finding finding = {.size = sizeof finding};
        lxi_str reason;
        lxi_check_report_unrepaired_at(report, i, &finding, &reason, NULL);
        line("unrepaired %u", finding.kind);
    }
    lxi_check_report_free(report);
}

/* The steps whose first word is a fingerprint. */
static int about_one(struct place *place, const struct words *words) {
    static const char *const names[] = {"edit", "use", "delete", "export", "export-to", "open"};
    lxi_str name = word(words, 0);
    lxi_error *error = NULL;
    lxi_fingerprint fingerprint;
    const lxi_fingerprint *of;
    size_t at = 0;
    while (at < sizeof names / sizeof *names && !is(name, names[at]))
        at++;
    if (at == sizeof names / sizeof *names)
        return 0;
    if (fingerprint_of(word(words, 1), &fingerprint, &of))
        return 1;
    switch (at) {
    case 0: edit(place, of, words); break;
    case 1: failed(lxi_store_mark_used(place->store, of, &error), &error); break;
    case 2: failed(lxi_store_delete(place->store, of, &error), &error); break;
    case 3: export(place, of, word(words, 2)); break;
    case 4: export_to(place, of); break;
    default: open_stored(place, of);
    }
    return 1;
}

/* The type that a step names, or 0. */
static lxi_image_type type_of(const struct words *words, size_t index) {
    if (index >= words->count)
        return 0;
    return is(word(words, index), "container") ? LXI_TYPE_CONTAINER : LXI_TYPE_VIRTUAL_MACHINE;
}

int store_step(struct place *place, const struct words *words) {
    lxi_str name = word(words, 0);
    lxi_error *error = NULL;
    if (is(name, "store")) {
        lxi_store_options options = {.size = sizeof options, .limits = place->limits, .clock = clock_of, .clock_user = &place->clock, .policy = place->trust.policy};
        lxi_store_free(place->store);
        place->store = NULL;
        place->clock = 1750000000;
        failed(lxi_store_open(word(words, 1), &options, &place->store, &error), &error);
    } else if (is(name, "explain")) {
        explain(place, words);
    } else if (is(name, "clock")) {
        place->clock = strtoll(chars(word(words, 1)), NULL, 10);
    } else if (is(name, "import")) {
        import(place, words);
    } else if (is(name, "list")) {
        list(place, words);
    } else if (is(name, "resolve")) {
        lxi_stored_image *image = NULL;
        if (!failed(lxi_store_resolve_preferring(place->store, word(words, 1), type_of(words, 2), &image, &error), &error))
            show_image(image);
    } else if (is(name, "create-alias") || is(name, "move-alias")) {
        lxi_fingerprint fingerprint;
        const lxi_fingerprint *target;
        lxi_alias alias = {word(words, 1), word(words, 2)};
        if (fingerprint_of(word(words, 3), &fingerprint, &target))
            return 1;
        failed(is(name, "move-alias") ? lxi_store_move_alias(place->store, alias, target, &error)
                                      : lxi_store_create_alias(place->store, alias, target, &error),
               &error);
    } else if (is(name, "rename-alias")) {
        failed(words->count > 3 ? lxi_store_rename_alias_of_type(place->store, word(words, 1), word(words, 2), type_of(words, 3), &error)
                                : lxi_store_rename_alias(place->store, word(words, 1), word(words, 2), &error),
               &error);
    } else if (is(name, "delete-alias")) {
        failed(words->count > 2 ? lxi_store_delete_alias_of_type(place->store, word(words, 1), type_of(words, 2), &error)
                                : lxi_store_delete_alias(place->store, word(words, 1), &error),
               &error);
    } else if (is(name, "aliases")) {
        aliases(place);
    } else if (is(name, "prune")) {
        prune(place, word(words, 1));
    } else if (is(name, "check")) {
        check(place, 0);
    } else if (is(name, "repair")) {
        check(place, LXI_CHECK_REPAIR);
    } else {
        return about_one(place, words);
    }
    return 1;
}
