/* Steps about registries, layouts and bundles, and about disks. */
#define _GNU_SOURCE
#include "cases.h"

#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int has(lxi_str flags, char flag) {
    return memchr(flags.data, flag, flags.len) != NULL;
}

/* Starts a registry, which ends when its input does. */
static void start(struct place *place) {
    int in[2], out[2];
    const char *script = getenv("LXD_IMAGE_TEST_REGISTRY");
    if (script == NULL)
        broken("LXD_IMAGE_TEST_REGISTRY does not name registry.py", "");
    if (pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0)
        broken("no pipe", "");
    pid_t child = fork();
    if (child == 0) {
        dup2(in[0], 0);
        dup2(out[1], 1);
        execlp("python3", "python3", script, (char *)NULL);
        _exit(127);
    }
    close(in[0]);
    close(out[1]);
    FILE *said = fdopen(out[0], "r");
    if (said == NULL || fgets(place->oci.url, sizeof place->oci.url, said) == NULL)
        broken("the registry does not start", script);
    place->oci.url[strcspn(place->oci.url, "\n")] = '\0';
    fclose(said);
    place->oci.input = in[1];
    place->oci.process = child;
}

void end_oci(struct place *place) {
    if (place->oci.process > 0) {
        close(place->oci.input);
        waitpid(place->oci.process, NULL, 0);
    }
    lxi_disk_free(place->oci.disk);
    memset(&place->oci, 0, sizeof place->oci);
}

void connect_registry(struct place *place, const struct words *words) {
    lxi_known_remote known = {.size = sizeof known, .protocol = LXI_STR("oci"), .flags = LXI_REMOTE_PUBLIC};
    lxi_remote *whole = NULL;
    lxi_error *error = NULL;
    known.url = (lxi_str){place->oci.url, strlen(place->oci.url)};
    if (failed(lxi_remote_connect(&known, NULL, &whole, &error), &error))
        return;
    if (words->count < 3) {
        place->remote = whole;
        return;
    }
    failed(lxi_remote_repository(whole, word(words, 2), &place->remote, &error), &error);
    lxi_remote_free(whole);
}

static void show_names(lxi_names *names) {
    size_t count = 0;
    lxi_names_len(names, &count, NULL);
    for (size_t i = 0; i < count; i++) {
        lxi_str name;
        lxi_names_at(names, i, &name, NULL);
        line("%.*s", (int)name.len, name.data);
    }
    lxi_names_free(names);
}

static void push(struct place *place, const struct words *words) {
    lxi_str tags[8], flags = word(words, 1);
    lxi_push_options options = {.size = sizeof options, .tags = tags, .monitor = &place->monitor};
    lxi_buffer *digest = NULL;
    lxi_bytes bytes;
    lxi_error *error = NULL;
    lxi_fingerprint fingerprint;
    const lxi_fingerprint *of;
    char copy[256], *rest, *name;
    options.flags = (has(flags, 'a') ? LXI_PUSH_ALIAS_TAGS : 0) | (has(flags, 'r') ? LXI_PUSH_REUSE_TAGS : 0);
    snprintf(copy, sizeof copy, "%s", chars(word(words, 2)));
    for (name = strtok_r(copy, ",", &rest); name != NULL; name = strtok_r(NULL, ",", &rest))
        if (strcmp(name, "-") != 0)
            tags[options.tags_len++] = (lxi_str){name, strlen(name)};
    if (fingerprint_of(word(words, 3), &fingerprint, &of) ||
        failed(lxi_remote_push(place->remote, place->store, of, word(words, 4), &options, &digest, &error), &error))
        return;
    lxi_buffer_get(digest, &bytes, NULL);
    line("%.*s", (int)bytes.len, (const char *)bytes.data);
    lxi_buffer_free(digest);
}

static void layout_options(struct place *place, const struct words *words, size_t at, lxi_layout_options *options) {
    *options = (lxi_layout_options){.size = sizeof *options,
                                    .flags = has(word(words, 1), 's') ? LXI_LAYOUT_SYSTEM : 0,
                                    .architecture = LXI_STR("x86_64"),
                                    .compression = LXI_STR("none"),
                                    .limits = place->limits};
    if (words->count > at)
        options->image = word(words, at);
}

static void show_written(lxi_written *written) {
    lxi_written_info info = {.size = sizeof info};
    lxi_written_get(written, &info, NULL);
    begin();
    putchar(' ');
    show_fingerprint(&info.fingerprint);
    line_end();
    lxi_written_free(written);
}

static void import_layout(struct place *place, const struct words *words) {
    static const lxi_fingerprint none;
    lxi_layout_options layout;
    lxi_import_options options = {.size = sizeof options, .monitor = &place->monitor};
    lxi_stored_image *image = NULL;
    lxi_fingerprint incus;
    lxi_error *error = NULL;
    layout_options(place, words, 3, &layout);
    if (failed(lxi_store_import_layout(place->store, word(words, 2), &layout, &options, &image, &incus, &error), &error))
        return;
    show_image(image);
    if (memcmp(&incus, &none, sizeof none) != 0) {
        fputs("= incus ", stdout);
        show_fingerprint(&incus);
        line_end();
    }
}

static void bundle(struct place *place, const struct words *words) {
    lxi_fingerprint fingerprints[8];
    const lxi_fingerprint *of;
    lxi_error *error = NULL;
    for (size_t i = 2; i < words->count; i++)
        if (fingerprint_of(word(words, i), &fingerprints[i - 2], &of))
            return;
    failed(lxi_bundle_create(place->store, fingerprints, words->count - 2, word(words, 1), &place->monitor, &error), &error);
}

static void bundle_import(struct place *place, const struct words *words) {
    lxi_bundle_options options = {.size = sizeof options, .limits = place->limits, .monitor = &place->monitor};
    lxi_image_list *images = NULL;
    lxi_error *error = NULL;
    size_t count = 0;
    options.flags = (has(word(words, 1), 'p') ? LXI_BUNDLE_PUBLIC : 0) | (has(word(words, 1), 'r') ? LXI_BUNDLE_REUSE_ALIASES : 0);
    if (failed(lxi_bundle_import(place->store, word(words, 2), &options, &images, &error), &error))
        return;
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

/* A word, or nothing for `-`. */
static lxi_str given(lxi_str word) {
    return is(word, "-") ? (lxi_str){0} : word;
}

static lxi_input by_path(lxi_str path) {
    return (lxi_input){.size = sizeof(lxi_input), .kind = LXI_INPUT_PATH, .path = path};
}

static void disk(struct place *place, const struct words *words) {
    lxi_input input = by_path(word(words, 2));
    lxi_disk_options options = {
        .size = sizeof options, .format = given(word(words, 1)), .directory = LXI_STR("."), .threads = 2, .limits = place->limits, .monitor = &place->monitor};
    lxi_disk_info info = {.size = sizeof info};
    lxi_error *error = NULL;
    uint64_t allocated = 0;
    lxi_disk_free(place->oci.disk);
    place->oci.disk = NULL;
    if (failed(lxi_disk_open(&input, &options, &place->oci.disk, &error), &error))
        return;
    if (lxi_disk_get(place->oci.disk, &info, NULL) != LXI_OK || lxi_disk_allocated(place->oci.disk, &place->monitor, &allocated, NULL) != LXI_OK)
        broken("a disk says nothing", "");
    printf("= %.*s %.*s", (int)info.format.len, info.format.data, (int)info.disk_format.len, info.disk_format.data);
    quote_str(info.variant);
    line_end();
    line("size %llu cluster %llu allocated %llu", (unsigned long long)info.virtual_size, (unsigned long long)info.cluster_size,
         (unsigned long long)allocated);
}

static void disk_read(struct place *place, const struct words *words) {
    static uint8_t buffer[4096];
    lxi_error *error = NULL;
    size_t got = 0;
    uint64_t offset = strtoull(chars(word(words, 1)), NULL, 10);
    size_t length = (size_t)strtoull(chars(word(words, 2)), NULL, 10);
    if (failed(lxi_disk_read_at(place->oci.disk, offset, buffer, length, &got, &error), &error))
        return;
    begin();
    quote((lxi_bytes){buffer, got});
    line_end();
}

static void show_disk(const lxi_disk_written *written) {
    line("virtual %llu bytes %llu", (unsigned long long)written->virtual_size, (unsigned long long)written->bytes);
}

/* The metadata and what is packed; not compressed. */
static lxi_pack_options packing(struct place *place, lxi_str yaml) {
    return (lxi_pack_options){.size = sizeof(lxi_pack_options),
                              .metadata_yaml = bytes_of(yaml),
                              .compression = LXI_STR("none"),
                              .limits = place->limits,
                              .monitor = &place->monitor};
}

/* `files` are opened from the word with this index on; NULL after an error was shown. */
static lxi_image *open_image(const struct words *words, size_t first, struct files *files) {
    lxi_image *image = NULL;
    lxi_error *error = NULL;
    open_files(files, words, first);
    lxi_input *second = files->count > 1 ? &files->input[1] : NULL;
    failed(lxi_image_open(&files->input[0], second, NULL, &image, &error), &error);
    return image;
}

static void move_disk(struct place *place, const struct words *words) {
    lxi_unpack_options unpacking = {.size = sizeof unpacking, .monitor = &place->monitor};
    lxi_disk_write_options options = {.size = sizeof options, .monitor = &place->monitor};
    lxi_disk_written written = {.size = sizeof written};
    lxi_staged *staged = NULL;
    lxi_error *error = NULL;
    struct files files;
    lxi_image *image = open_image(words, 3, &files);
    if (image != NULL && !failed(lxi_image_stage(image, word(words, 2), &unpacking, &staged, &error), &error)) {
        if (lxi_staged_move_disk(staged, word(words, 1), &options, &written, NULL) != LXI_INVALID_INPUT)
            broken("an image that is not verified gives its disk", "");
        lxi_staged_accept_unverified(staged, NULL);
        if (!failed(lxi_staged_move_disk(staged, word(words, 1), &options, &written, &error), &error) &&
            !failed(lxi_staged_commit(staged, word(words, 2), NULL, &error), &error))
            show_disk(&written);
    }
    lxi_staged_free(staged);
    lxi_image_free(image);
    close_files(&files);
}

static void unpack_disk(struct place *place, const struct words *words) {
    lxi_unpack_options options = {.size = sizeof options, .disk_format = word(words, 1), .monitor = &place->monitor};
    lxi_error *error = NULL;
    struct files files;
    lxi_image *image = open_image(words, 3, &files);
    if (image != NULL)
        failed(lxi_image_unpack_unverified(image, word(words, 2), &options, NULL, &error), &error);
    lxi_image_free(image);
    close_files(&files);
}

static void convert_disk(struct place *place, const struct words *words) {
    lxi_convert_options options = {.size = sizeof options,
                                   .compression = LXI_STR("none"),
                                   .disk_format = word(words, 1),
                                   .disk_compression = given(word(words, 2)),
                                   .monitor = &place->monitor};
    lxi_written *written = NULL;
    lxi_error *error = NULL;
    struct files files;
    lxi_image *image = open_image(words, 4, &files);
    if (image != NULL && !failed(lxi_image_convert(image, &options, word(words, 3), &written, &error), &error))
        show_written(written);
    lxi_image_free(image);
    close_files(&files);
}

static int disk_step(struct place *place, const struct words *words) {
    lxi_str name = word(words, 0);
    lxi_error *error = NULL;
    lxi_written *written = NULL;
    if (is(name, "disk")) {
        disk(place, words);
    } else if (is(name, "disk-read")) {
        disk_read(place, words);
    } else if (is(name, "disk-write")) {
        lxi_disk_write_options options = {
            .size = sizeof options, .format = given(word(words, 1)), .compression = given(word(words, 2)), .monitor = &place->monitor};
        lxi_disk_written done = {.size = sizeof done};
        if (!failed(lxi_disk_write(place->oci.disk, word(words, 3), &options, &done, &error), &error))
            show_disk(&done);
    } else if (is(name, "pack-disk")) {
        lxi_input input = by_path(word(words, 3));
        lxi_pack_options options = packing(place, word(words, 4));
        options.disk = &input;
        options.disk_input = given(word(words, 1));
        options.disk_compression = given(word(words, 2));
        if (!failed(lxi_pack(&options, word(words, 5), &written, &error), &error))
            show_written(written);
    } else if (is(name, "pack-metadata")) {
        lxi_pack_options options = packing(place, word(words, 1));
        if (!failed(lxi_pack_metadata(&options, word(words, 2), &written, &error), &error))
            show_written(written);
    } else if (is(name, "unpack-disk")) {
        unpack_disk(place, words);
    } else if (is(name, "move-disk")) {
        move_disk(place, words);
    } else if (is(name, "convert-disk")) {
        convert_disk(place, words);
    } else {
        return 0;
    }
    return 1;
}

int oci_step(struct place *place, const struct words *words) {
    lxi_str name = word(words, 0);
    lxi_error *error = NULL;
    lxi_names *names = NULL;
    if (is(name, "registry")) {
        start(place);
    } else if (is(name, "push")) {
        push(place, words);
    } else if (is(name, "tags")) {
        if (!failed(lxi_remote_tags(place->remote, given(word(words, 1)), &place->monitor, &names, &error), &error))
            show_names(names);
    } else if (is(name, "layout-names")) {
        if (!failed(lxi_layout_names(word(words, 1), place->limits, &place->monitor, &names, &error), &error))
            show_names(names);
    } else if (is(name, "import-layout")) {
        import_layout(place, words);
    } else if (is(name, "layout-write")) {
        lxi_layout_options options;
        lxi_written *written = NULL;
        layout_options(place, words, 4, &options);
        if (!failed(lxi_layout_write(word(words, 2), &options, word(words, 3), &place->monitor, &written, &error), &error))
            show_written(written);
    } else if (is(name, "bundle")) {
        bundle(place, words);
    } else if (is(name, "bundle-import")) {
        bundle_import(place, words);
    } else {
        return disk_step(place, words);
    }
    return 1;
}
