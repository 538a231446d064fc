/* arguments debug|release DIRECTORY: gives the library what makes no sense. Every call must refuse it with InvalidInput and
 * a message, and nothing may crash. What only debug builds find (freed and foreign handles) is tried there. */
#define _GNU_SOURCE
#include <lxd_image.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

static int tried;

#define REFUSED(call)                                                                                                    \
    do {                                                                                                                 \
        lxi_error *error = (lxi_error *)&tried;                                                                          \
        lxi_status status = call;                                                                                        \
        tried++;                                                                                                         \
        if (status != LXI_INVALID_INPUT) {                                                                               \
            fprintf(stderr, "line %d: %s returned %s\n", __LINE__, #call, lxi_status_name(status));                      \
            exit(1);                                                                                                     \
        }                                                                                                                \
        lxi_error_info info = {.size = sizeof info};                                                                     \
        if (lxi_error_get(error, &info) != LXI_OK || info.status != status || info.message.len == 0) {                   \
            fprintf(stderr, "line %d: no message\n", __LINE__);                                                          \
            exit(1);                                                                                                     \
        }                                                                                                                \
        lxi_error_free(error);                                                                                           \
    } while (0)

#define NOT_OK(call)                                                                                                     \
    do {                                                                                                                 \
        tried++;                                                                                                         \
        if ((call) != LXI_INVALID_INPUT) {                                                                               \
            fprintf(stderr, "line %d: %s was taken\n", __LINE__, #call);                                                 \
            exit(1);                                                                                                     \
        }                                                                                                                \
    } while (0)

#define WORKS(call)                                                                                                      \
    do {                                                                                                                 \
        lxi_status worked = (call);                                                                                      \
        if (worked != LXI_OK) {                                                                                          \
            fprintf(stderr, "line %d: %s returned %s\n", __LINE__, #call, lxi_status_name(worked));                      \
            exit(1);                                                                                                     \
        }                                                                                                                \
    } while (0)

static int released;

static lxi_status nothing(void *user, uint8_t *buffer, size_t capacity, size_t *got) {
    (void)user;
    (void)buffer;
    (void)capacity;
    *got = 0;
    return LXI_OK;
}

static lxi_status too_much(void *user, uint8_t *buffer, size_t capacity, size_t *got) {
    (void)user;
    (void)buffer;
    *got = capacity + 1;
    return LXI_OK;
}

static lxi_status busy(void *user, uint8_t *buffer, size_t capacity, size_t *got) {
    (void)user;
    (void)buffer;
    (void)capacity;
    (void)got;
    return LXI_BUSY;
}

static void release(void *user) {
    ++*(int *)user;
}

static void inputs(void) {
    lxi_image *image = NULL;
    lxi_input input = {.size = sizeof input, .kind = 99};
    REFUSED(lxi_image_open(NULL, NULL, NULL, &image, &error));
    REFUSED(lxi_image_open(&input, NULL, NULL, &image, &error));
    input.size = 3;
    REFUSED(lxi_image_open(&input, NULL, NULL, &image, &error));
    input = (lxi_input){.size = sizeof input, .kind = LXI_INPUT_FD, .fd = -1};
    REFUSED(lxi_image_open(&input, NULL, NULL, &image, &error));
    input.fd = 1000000;
    REFUSED(lxi_image_open(&input, NULL, NULL, &image, &error));
    input = (lxi_input){.size = sizeof input, .kind = LXI_INPUT_BYTES, .bytes = {NULL, 7}};
    REFUSED(lxi_image_open(&input, NULL, NULL, &image, &error));
    input.bytes = (lxi_bytes){(const uint8_t *)"x", SIZE_MAX};
    REFUSED(lxi_image_open(&input, NULL, NULL, &image, &error));
    input = (lxi_input){.size = sizeof input, .kind = LXI_INPUT_PATH, .path = {"a\0b", 3}};
    REFUSED(lxi_image_open(&input, NULL, NULL, &image, &error));
    input = (lxi_input){.size = sizeof input, .kind = LXI_INPUT_STREAM, .release = release, .user = &released};
    REFUSED(lxi_image_open(&input, NULL, NULL, &image, &error));
    if (released != 0)
        exit(1);
    /* Taken, and then something else is wrong: it is released all the same. */
    input.read = nothing;
    REFUSED(lxi_image_open(&input, NULL, NULL, NULL, &error));
    REFUSED(lxi_image_open(&input, NULL, (lxi_limits *)&input, &image, &error));
    lxi_input second = {.size = 1};
    REFUSED(lxi_image_open(&input, &second, NULL, &image, &error));
    REFUSED(lxi_image_open(&second, &input, NULL, &image, &error));
    if (released != 4) {
        fprintf(stderr, "%d of 4 streams were released\n", released);
        exit(1);
    }
    /* A callback's own status comes out. */
    input.read = busy;
    if (lxi_image_open(&input, NULL, NULL, &image, NULL) != LXI_BUSY || released != 5)
        exit(1);
    input.read = too_much;
    REFUSED(lxi_image_open(&input, NULL, NULL, &image, &error));
    lxi_hasher *hasher = NULL;
    WORKS(lxi_hasher_new(&hasher, NULL));
    REFUSED(lxi_hasher_update_from(hasher, NULL, NULL, NULL, &error));
    REFUSED(lxi_hasher_update_from(hasher, too_much, NULL, NULL, &error));
    REFUSED(lxi_hasher_update(hasher, (lxi_bytes){NULL, 1}, &error));
    REFUSED(lxi_hasher_update(NULL, (lxi_bytes){NULL, 0}, &error));
    WORKS(lxi_hasher_update(hasher, (lxi_bytes){NULL, 0}, NULL));
    WORKS(lxi_hasher_free(hasher));
}

static void texts(void) {
    lxi_metadata *metadata = NULL;
    lxi_str value;
    static char long_text[(1 << 20) + 1];
    memset(long_text, 'x', sizeof long_text);
    WORKS(lxi_metadata_new(LXI_STR("x86_64"), 1, &metadata, NULL));
    REFUSED(lxi_metadata_set_property(metadata, (lxi_str){NULL, 1}, LXI_STR("v"), &error));
    REFUSED(lxi_metadata_set_property(metadata, LXI_STR("k"), LXI_STR("\xff"), &error));
    REFUSED(lxi_metadata_set_property(metadata, LXI_STR("k"), LXI_STR("a\0b"), &error));
    REFUSED(lxi_metadata_set_property(metadata, LXI_STR("k"), (lxi_str){long_text, sizeof long_text}, &error));
    REFUSED(lxi_metadata_set_property(metadata, LXI_STR("k"), (lxi_str){long_text, SIZE_MAX}, &error));
    REFUSED(lxi_metadata_property(metadata, LXI_STR("k"), NULL, &error));
    REFUSED(lxi_metadata_property(metadata, (lxi_str){NULL, 5}, &value, &error));
    if (value.data != NULL || value.len != 0)
        exit(1);
    WORKS(lxi_metadata_set_property(metadata, LXI_STR("k"), (lxi_str){long_text, sizeof long_text - 1}, NULL));
    /* No property came of what was refused. */
    lxi_metadata_info info = {.size = sizeof info};
    WORKS(lxi_metadata_get(metadata, &info, NULL));
    if (info.properties != 1)
        exit(1);
    lxi_rule rule = {.size = sizeof rule, .template_name = LXI_STR("t"), .when_len = 70000, .when = &info.architecture};
    REFUSED(lxi_metadata_set_rule(metadata, LXI_STR("/x"), &rule, &error));
    rule.when_len = 1;
    rule.when = NULL;
    REFUSED(lxi_metadata_set_rule(metadata, LXI_STR("/x"), &rule, &error));
    rule.when = (const lxi_str *)((const char *)&info.architecture + 1);
    REFUSED(lxi_metadata_set_rule(metadata, LXI_STR("/x"), &rule, &error));
    rule.when = &info.architecture;
    rule.flags = 1u << 31;
    REFUSED(lxi_metadata_set_rule(metadata, LXI_STR("/x"), &rule, &error));
    rule.flags = 0;
    REFUSED(lxi_metadata_set_rule(metadata, LXI_STR("x"), &rule, &error));
    REFUSED(lxi_metadata_set_rule(metadata, LXI_STR("/x"), NULL, &error));
    WORKS(lxi_metadata_set_rule(metadata, LXI_STR("/x"), &rule, NULL));
    WORKS(lxi_metadata_free(metadata));
    char small[64];
    lxi_fingerprint fingerprint = {{0}};
    REFUSED(lxi_fingerprint_format(&fingerprint, small, sizeof small, &error));
    REFUSED(lxi_fingerprint_format(&fingerprint, NULL, 65, &error));
    REFUSED(lxi_fingerprint_format(NULL, small, 65, &error));
    bool yes;
    WORKS(lxi_has_feature(LXI_STR("zstd"), &yes, NULL));
    if (!yes)
        exit(1);
    WORKS(lxi_has_feature(LXI_STR("telepathy"), &yes, NULL));
    if (yes)
        exit(1);
}

static void structures(void) {
    lxi_metadata *metadata = NULL;
    WORKS(lxi_metadata_new(LXI_STR("x86_64"), 1, &metadata, NULL));
    lxi_metadata_info info = {.size = 0};
    REFUSED(lxi_metadata_get(metadata, &info, &error));
    info.size = sizeof info - 1;
    REFUSED(lxi_metadata_get(metadata, &info, &error));
    info.size = SIZE_MAX;
    REFUSED(lxi_metadata_get(metadata, &info, &error));
    REFUSED(lxi_metadata_get(metadata, NULL, &error));
    char room[sizeof info + 8];
    REFUSED(lxi_metadata_get(metadata, (lxi_metadata_info *)((((uintptr_t)room + 7) & ~(uintptr_t)7) + 1), &error));
    /* A structure of a later version: what this library does not know is nothing. */
    struct {
        lxi_metadata_info known;
        uint64_t later;
    } larger = {.known = {.size = sizeof larger}, .later = 7};
    WORKS(lxi_metadata_get(metadata, &larger.known, NULL));
    if (larger.later != 0 || larger.known.size != sizeof larger || larger.known.creation_date != 1)
        exit(1);
    WORKS(lxi_metadata_free(metadata));
    lxi_store *store = NULL;
    struct {
        lxi_store_options known;
        uint64_t later;
    } asking = {.known = {.size = sizeof asking, .flags = LXI_STORE_NO_CREATE}, .later = 7};
    REFUSED(lxi_store_open(LXI_STR("missing"), &asking.known, &store, &error));
    asking.later = 0;
    if (lxi_store_open(LXI_STR("missing"), &asking.known, &store, NULL) != LXI_NOT_FOUND || store != NULL)
        exit(1);
    asking.known.flags = 1u << 30;
    REFUSED(lxi_store_open(LXI_STR("missing"), &asking.known, &store, &error));
    REFUSED(lxi_store_open(LXI_STR(""), NULL, &store, &error));
    static char long_path[5000];
    memset(long_path, 'x', sizeof long_path);
    REFUSED(lxi_store_open((lxi_str){long_path, sizeof long_path}, NULL, &store, &error));
    lxi_template *parsed = NULL;
    REFUSED(lxi_template_parse((lxi_bytes){NULL, 0}, 7, 0, NULL, &parsed, &error));
    REFUSED(lxi_template_parse((lxi_bytes){NULL, 0}, 0, 6, NULL, &parsed, &error));
    REFUSED(lxi_pack(NULL, LXI_STR("x"), NULL, &error));
    lxi_pack_options packing = {.size = sizeof packing};
    REFUSED(lxi_pack(&packing, LXI_STR("x"), NULL, &error));
    packing.tree = LXI_STR(".");
    REFUSED(lxi_pack(&packing, LXI_STR("x"), NULL, &error));
    packing.metadata_yaml = (lxi_bytes){(const uint8_t *)"architecture: amd64\ncreation_date: 1\n", 36};
    packing.form = 9;
    REFUSED(lxi_pack(&packing, LXI_STR("x"), NULL, &error));
    packing.form = 0;
    REFUSED(lxi_pack_to(&packing, NULL, NULL, NULL, &error));
}

static void handles(int debug) {
    lxi_metadata *metadata = NULL;
    lxi_limits *limits = NULL;
    lxi_cancel *cancel = NULL;
    lxi_metadata_info info = {.size = sizeof info};
    WORKS(lxi_metadata_new(LXI_STR("x86_64"), 1, &metadata, NULL));
    WORKS(lxi_limits_new(&limits, NULL));
    WORKS(lxi_cancel_new(&cancel, NULL));
    /* A wrong kind. */
    REFUSED(lxi_metadata_get((const lxi_metadata *)limits, &info, &error));
    REFUSED(lxi_cancel_set((const lxi_cancel *)metadata, &error));
    NOT_OK(lxi_limits_free((lxi_limits *)metadata));
    NOT_OK(lxi_metadata_free((lxi_metadata *)cancel));
    /* Not aligned, and NULL. */
    REFUSED(lxi_metadata_get((const lxi_metadata *)((const char *)metadata + 1), &info, &error));
    REFUSED(lxi_metadata_get(NULL, &info, &error));
    WORKS(lxi_metadata_free(NULL));
    WORKS(lxi_error_free(NULL));
    /* No place for the error, or one that can't be written. */
    NOT_OK(lxi_metadata_get(NULL, &info, NULL));
    NOT_OK(lxi_metadata_get(metadata, &info, (lxi_error **)((char *)&info + 1)));
    NOT_OK(lxi_error_get(NULL, NULL));
    REFUSED(lxi_limits_new(NULL, &error));
    REFUSED(lxi_limits_new((lxi_limits **)((char *)&info + 1), &error));
    /* Past the end of a list is no nonsense. */
    lxi_str name;
    if (lxi_limits_name_at(SIZE_MAX, &name, NULL) != LXI_NOT_FOUND)
        exit(1);
    WORKS(lxi_metadata_free(metadata));
    WORKS(lxi_limits_free(limits));
    WORKS(lxi_cancel_free(cancel));
    if (!debug)
        return;
    /* Freed. */
    REFUSED(lxi_metadata_get(metadata, &info, &error));
    NOT_OK(lxi_metadata_free(metadata));
    NOT_OK(lxi_cancel_free(cancel));
    REFUSED(lxi_limits_set(limits, LXI_STR("entries"), 1, &error));
    /* Foreign. */
    uint64_t mine[64] = {0};
    REFUSED(lxi_metadata_get((const lxi_metadata *)mine, &info, &error));
    REFUSED(lxi_metadata_get((const lxi_metadata *)8, &info, &error));
    NOT_OK(lxi_image_free((lxi_image *)mine));
}

static void stores(const char *directory) {
    lxi_store *store = NULL;
    lxi_stored_image *image = NULL;
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/store", directory);
    WORKS(lxi_store_open((lxi_str){path, (size_t)length}, NULL, &store, NULL));
    lxi_fingerprint fingerprint = {{0}};
    lxi_edit edit = {.size = sizeof edit, .flags = LXI_EDIT_PUBLIC | LXI_EDIT_PRIVATE};
    REFUSED(lxi_store_edit(store, &fingerprint, &edit, &image, &error));
    REFUSED(lxi_store_edit(store, NULL, &edit, &image, &error));
    REFUSED(lxi_store_edit(store, (const lxi_fingerprint *)NULL, NULL, &image, &error));
    REFUSED(lxi_store_create_alias(store, (lxi_alias){LXI_STR("\xff"), LXI_STR("")}, &fingerprint, &error));
    lxi_import_options options = {.size = sizeof options, .aliases_len = 1};
    lxi_input input = {.size = sizeof input, .kind = LXI_INPUT_BYTES};
    REFUSED(lxi_store_import(store, &input, NULL, &options, NULL, &error));
    options.aliases_len = 0;
    options.flags = LXI_IMPORT_AUTO_UPDATE;
    REFUSED(lxi_store_import(store, &input, NULL, &options, NULL, &error));
    REFUSED(lxi_store_list(store, NULL, 1, NULL, &error));
    REFUSED(lxi_store_export_to(store, &fingerprint, NULL, NULL, NULL, NULL, &error));
    WORKS(lxi_store_free(store));
}

static void trust(void) {
    lxi_secret_key *key = NULL, *other = NULL;
    lxi_public_key *public = NULL;
    lxi_statements *statements = NULL;
    lxi_policy *policy = NULL;
    lxi_admission *admission = NULL;
    lxi_fingerprint fingerprint = {{0}};
    lxi_str text;
    size_t count;
    bool yes;
    WORKS(lxi_secret_key_generate(&key, NULL));
    WORKS(lxi_secret_key_public(key, &public, NULL));
    const lxi_secret_key *keys[] = {key, (const lxi_secret_key *)public};
    const lxi_public_key *publics[] = {public, (const lxi_public_key *)key};
    REFUSED(lxi_secret_key_generate(NULL, &error));
    REFUSED(lxi_secret_key_parse((lxi_bytes){NULL, 3}, (lxi_bytes){0}, &other, &error));
    REFUSED(lxi_secret_key_read((lxi_str){0}, (lxi_bytes){0}, &other, &error));
    REFUSED(lxi_public_key_id((const lxi_public_key *)key, &text, &error));
    REFUSED(lxi_public_key_id(public, NULL, &error));
    REFUSED(lxi_statement_sign(&fingerprint, NULL, 0, NULL, &statements, &error));
    REFUSED(lxi_statement_sign(&fingerprint, NULL, 1, NULL, &statements, &error));
    REFUSED(lxi_statement_sign(&fingerprint, keys, 2, NULL, &statements, &error));
    REFUSED(lxi_statement_sign(NULL, keys, 1, NULL, &statements, &error));
    REFUSED(lxi_statement_sign(&fingerprint, keys, (size_t)1 << 20, NULL, &statements, &error));
    WORKS(lxi_statement_sign(&fingerprint, keys, 1, NULL, &statements, NULL));
    REFUSED(lxi_statements_verify(statements, &fingerprint, (lxi_str){0}, publics, 2, &count, &error));
    REFUSED(lxi_statements_signed_by(statements, 0, &fingerprint, NULL, &yes, &error));
    REFUSED(lxi_statements_verify(NULL, &fingerprint, (lxi_str){0}, publics, 1, &count, &error));
    REFUSED(lxi_policy_parse(LXI_STR("\xff"), LXI_STR("."), NULL, &policy, &error));
    REFUSED(lxi_policy_parse(LXI_STR("no = 1"), LXI_STR("."), NULL, &policy, &error));
    /* Without settings no remote has a name: a rule for one would match nothing. */
    REFUSED(lxi_policy_parse(LXI_STR("[[rule]]\nname = \"a\"\nremote = \"images\"\nverdict = \"deny\""), LXI_STR("."), NULL, &policy, &error));
    WORKS(lxi_policy_parse(LXI_STR("default = \"allow\""), LXI_STR("."), NULL, &policy, NULL));
    lxi_candidate candidate = {.size = sizeof candidate};
    REFUSED(lxi_policy_admit(policy, &candidate, &admission, &error));
    REFUSED(lxi_policy_admit(policy, NULL, &admission, &error));
    candidate.size = 3;
    REFUSED(lxi_policy_admit(policy, &candidate, &admission, &error));
    REFUSED(lxi_store_ask_policy(NULL, policy, &fingerprint, &admission, &error));
    WORKS(lxi_policy_free(policy));
    WORKS(lxi_statements_free(statements));
    WORKS(lxi_public_key_free(public));
    WORKS(lxi_secret_key_free(key));
}

static void disks(const char *directory) {
    uint8_t sectors[1024] = {1};
    lxi_input input = {.size = sizeof input, .kind = LXI_INPUT_BYTES, .bytes = {sectors, sizeof sectors}};
    lxi_disk_options options = {.size = sizeof options, .format = LXI_STR("floppy")};
    lxi_disk *disk = NULL;
    lxi_disk_write_options writing = {.size = sizeof writing};
    char path[4096];
    int length = snprintf(path, sizeof path, "%s/disk", directory);
    lxi_str out = {path, (size_t)length};
    size_t got;
    REFUSED(lxi_disk_open(&input, &options, &disk, &error));
    options.format = LXI_STR("raw");
    options.flags = 1;
    REFUSED(lxi_disk_open(&input, &options, &disk, &error));
    REFUSED(lxi_disk_open(NULL, NULL, &disk, &error));
    options.flags = 0;
    WORKS(lxi_disk_open(&input, &options, &disk, NULL));
    REFUSED(lxi_disk_read_at(disk, 0, NULL, 1, &got, &error));
    REFUSED(lxi_disk_read_at(disk, 0, sectors, SIZE_MAX, &got, &error));
    REFUSED(lxi_disk_read_at(disk, 0, sectors, 1, NULL, &error));
    WORKS(lxi_disk_read_at(disk, UINT64_MAX, sectors, sizeof sectors, &got, NULL));
    WORKS(lxi_disk_read_at(disk, 0, NULL, 0, &got, NULL));
    writing.flags = 2;
    REFUSED(lxi_disk_write(disk, out, &writing, NULL, &error));
    writing.flags = LXI_DISK_TO_DEVICE;
    REFUSED(lxi_disk_write(disk, out, &writing, NULL, &error));
    writing.flags = 0;
    writing.cluster_size = 3;
    REFUSED(lxi_disk_write(disk, out, &writing, NULL, &error));
    writing.format = LXI_STR("raw");
    REFUSED(lxi_disk_write(disk, out, &writing, NULL, &error));
    REFUSED(lxi_disk_write(disk, (lxi_str){0}, NULL, NULL, &error));
    REFUSED(lxi_staged_move_disk(NULL, out, NULL, NULL, &error));
    WORKS(lxi_disk_free(disk));
    REFUSED(lxi_bundle_create(NULL, NULL, 0, out, NULL, &error));
    REFUSED(lxi_layout_names((lxi_str){0}, NULL, NULL, NULL, &error));
    REFUSED(lxi_remote_push(NULL, NULL, NULL, out, NULL, NULL, &error));
}

int main(int argc, char **argv) {
    if (argc != 3)
        return 2;
    inputs();
    texts();
    structures();
    handles(strcmp(argv[1], "debug") == 0);
    stores(argv[2]);
    trust();
    disks(argv[2]);
    printf("%d refused\n", tried);
    return 0;
}
