/* threads DIRECTORY ROUNDS: eight threads use the same const handles at the same time: a template with its context, an image,
 * a metadata, a store, keys, a policy, a disk, a switch that one of them sets. For ThreadSanitizer, and to see that all get the same answers. */
#define _GNU_SOURCE
#include <lxd_image.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#define THREADS 8

#define WORKS(call)                                                                                                      \
    do {                                                                                                                 \
        lxi_status worked = (call);                                                                                      \
        if (worked != LXI_OK) {                                                                                          \
            fprintf(stderr, "line %d: %s returned %s\n", __LINE__, #call, lxi_status_name(worked));                      \
            exit(1);                                                                                                     \
        }                                                                                                                \
    } while (0)

static lxi_template *template_;
static lxi_template_context *context;
static lxi_image *image;
static lxi_metadata *metadata;
static lxi_store *store;
static lxi_limits *limits;
static lxi_cancel *cancel;
static lxi_secret_key *secret;
static lxi_public_key *public;
static lxi_policy *policy;
static lxi_disk *disk;
static lxi_fingerprint expected;
static const char *directory;
static atomic_int reports;
static int rounds;

static int32_t progress(void *user, const lxi_progress *now) {
    (void)now;
    atomic_fetch_add((atomic_int *)user, 1);
    return 0;
}

static void *work(void *user) {
    long number = (long)user;
    for (int round = 0; round < rounds; round++) {
        lxi_buffer *text = NULL;
        lxi_bytes bytes;
        WORKS(lxi_template_render(template_, context, limits, &text, NULL));
        WORKS(lxi_buffer_get(text, &bytes, NULL));
        if (bytes.len != 3 || memcmp(bytes.data, "c1\n", 3) != 0)
            exit(1);
        WORKS(lxi_buffer_free(text));

        lxi_str value;
        WORKS(lxi_metadata_property(metadata, LXI_STR("os"), &value, NULL));

        lxi_monitor monitor = {.size = sizeof monitor, .progress = progress, .user = &reports};
        lxi_verify_options options = {.size = sizeof options, .threads = 2, .monitor = &monitor};
        lxi_verify_report *verification = NULL;
        lxi_verify_info info = {.size = sizeof info};
        WORKS(lxi_image_verify(image, &options, &verification, NULL));
        WORKS(lxi_verify_report_get(verification, &info, NULL));
        if (memcmp(&info.fingerprint, &expected, sizeof expected) != 0)
            exit(1);
        WORKS(lxi_verify_report_free(verification));

        char path[4096];
        int length = snprintf(path, sizeof path, "%s/out-%ld-%d", directory, number, round);
        WORKS(lxi_image_unpack_verified(image, (lxi_str){path, (size_t)length}, &expected, NULL, NULL, NULL));

        const lxi_secret_key *signers[] = {secret};
        const lxi_public_key *verifiers[] = {public};
        lxi_statements *signed_ = NULL;
        size_t count = 0;
        WORKS(lxi_statement_sign(&expected, signers, 1, NULL, &signed_, NULL));
        WORKS(lxi_statements_verify(signed_, &expected, (lxi_str){0}, verifiers, 1, &count, NULL));
        if (count != 1)
            exit(1);
        WORKS(lxi_statements_free(signed_));
        lxi_candidate candidate = {.size = sizeof candidate, .fingerprint = &expected};
        WORKS(lxi_policy_admit(policy, &candidate, NULL, NULL));
        uint8_t part[8];
        WORKS(lxi_disk_read_at(disk, 512 * (uint64_t)number, part, sizeof part, &count, NULL));
        if (count != sizeof part || part[0] != (uint8_t)number)
            exit(1);

        lxi_stored_image *stored = NULL;
        WORKS(lxi_store_resolve(store, LXI_STR("web"), &stored, NULL));
        WORKS(lxi_stored_image_free(stored));
        WORKS(lxi_store_mark_used(store, &expected, NULL));

        /* Whoever comes to the last round first stops whoever waits for the switch. */
        if (round == rounds - 1)
            WORKS(lxi_cancel_set(cancel, NULL));
        lxi_monitor stopping = {.size = sizeof stopping, .cancel = cancel};
        lxi_verify_options stopped = {.size = sizeof stopped, .threads = 1, .monitor = &stopping};
        lxi_status status = lxi_image_verify(image, &stopped, &verification, NULL);
        if (status == LXI_OK)
            WORKS(lxi_verify_report_free(verification));
        else if (status != LXI_CANCELLED)
            exit(1);
        if (round == rounds - 1 && status != LXI_CANCELLED)
            exit(1);
    }
    return NULL;
}

int main(int argc, char **argv) {
    static const char yaml[] = "architecture: amd64\ncreation_date: 1700000000\nproperties: {os: Debian}\n";
    if (argc != 3)
        return 2;
    directory = argv[1];
    rounds = atoi(argv[2]);
    char path[4096], file[4096];
    int path_length = snprintf(path, sizeof path, "%s/store", directory), file_length = snprintf(file, sizeof file, "%s/image", directory);
    lxi_str image_path = {file, (size_t)file_length};

    WORKS(lxi_metadata_parse((lxi_bytes){(const uint8_t *)yaml, sizeof yaml - 1}, NULL, &metadata, NULL));
    char tree[4096];
    int tree_length = snprintf(tree, sizeof tree, "%s/tree", directory);
    if (snprintf(tree, sizeof tree, "mkdir -p '%s/tree/etc' && echo box >'%s/tree/etc/hostname'", directory, directory) >= (int)sizeof tree || system(tree) != 0)
        return 1;
    tree_length = snprintf(tree, sizeof tree, "%s/tree", directory);
    lxi_pack_options packing = {.size = sizeof packing, .tree = {tree, (size_t)tree_length}, .metadata = metadata};
    lxi_written *written = NULL;
    lxi_written_info info = {.size = sizeof info};
    WORKS(lxi_pack(&packing, image_path, &written, NULL));
    WORKS(lxi_written_get(written, &info, NULL));
    expected = info.fingerprint;
    WORKS(lxi_written_free(written));

    lxi_input input = {.size = sizeof input, .kind = LXI_INPUT_PATH, .path = image_path};
    WORKS(lxi_image_open(&input, NULL, NULL, &image, NULL));
    WORKS(lxi_store_open((lxi_str){path, (size_t)path_length}, NULL, &store, NULL));
    lxi_alias alias = {LXI_STR("web"), LXI_STR("")};
    lxi_import_options importing = {.size = sizeof importing, .aliases = &alias, .aliases_len = 1};
    WORKS(lxi_store_import(store, &input, NULL, &importing, NULL, NULL));
    static const char source[] = "{{ container.name }}\n", json[] = "{\"container\": {\"name\": \"c1\"}}";
    WORKS(lxi_template_parse((lxi_bytes){(const uint8_t *)source, sizeof source - 1}, LXI_DIALECT_LXD, 0, NULL, &template_, NULL));
    WORKS(lxi_template_context_from_json((lxi_bytes){(const uint8_t *)json, sizeof json - 1}, &context, NULL));
    WORKS(lxi_limits_new(&limits, NULL));
    WORKS(lxi_cancel_new(&cancel, NULL));

    static uint8_t sectors[512 * THREADS];
    for (int i = 0; i < THREADS; i++)
        sectors[512 * i] = (uint8_t)i;
    lxi_input raw = {.size = sizeof raw, .kind = LXI_INPUT_BYTES, .bytes = {sectors, sizeof sectors}};
    lxi_disk_options opening = {.size = sizeof opening, .format = LXI_STR("raw")};
    lxi_disk *whole = NULL;
    char qcow2[4096];
    int qcow2_length = snprintf(qcow2, sizeof qcow2, "%s/disk.qcow2", directory);
    WORKS(lxi_disk_open(&raw, &opening, &whole, NULL));
    WORKS(lxi_disk_write(whole, (lxi_str){qcow2, (size_t)qcow2_length}, NULL, NULL, NULL));
    WORKS(lxi_disk_free(whole));
    lxi_input packed = {.size = sizeof packed, .kind = LXI_INPUT_PATH, .path = {qcow2, (size_t)qcow2_length}};
    WORKS(lxi_disk_open(&packed, NULL, &disk, NULL));
    WORKS(lxi_secret_key_generate(&secret, NULL));
    WORKS(lxi_secret_key_public(secret, &public, NULL));
    WORKS(lxi_policy_parse(LXI_STR("default = \"allow\""), LXI_STR("."), NULL, &policy, NULL));

    pthread_t threads[THREADS];
    for (long i = 0; i < THREADS; i++)
        if (pthread_create(&threads[i], NULL, work, (void *)i) != 0)
            return 1;
    for (int i = 0; i < THREADS; i++)
        pthread_join(threads[i], NULL);
    if (atomic_load(&reports) == 0)
        return 1;

    WORKS(lxi_policy_free(policy));
    WORKS(lxi_public_key_free(public));
    WORKS(lxi_secret_key_free(secret));
    WORKS(lxi_disk_free(disk));
    WORKS(lxi_cancel_free(cancel));
    WORKS(lxi_limits_free(limits));
    WORKS(lxi_template_context_free(context));
    WORKS(lxi_template_free(template_));
    WORKS(lxi_store_free(store));
    WORKS(lxi_image_free(image));
    WORKS(lxi_metadata_free(metadata));
    return 0;
}
