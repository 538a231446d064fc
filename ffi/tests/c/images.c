/* Steps about fingerprints, metadata and images. */
#define _GNU_SOURCE
#include "cases.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static const char *yes(bool truth) {
    return truth ? "yes" : "no";
}

static void show_metadata(const lxi_metadata *metadata) {
    lxi_metadata_info info = {.size = sizeof info};
    if (lxi_metadata_get(metadata, &info, NULL) != LXI_OK)
        broken("a metadata says nothing", "");
    begin();
    fputs(" architecture", stdout);
    quote_str(info.architecture);
    fputs(" kernel", stdout);
    quote_str(info.kernel_architecture);
    fputs(" debian", stdout);
    quote_str(info.debian_architecture);
    line_end();
    line("created %lld expires %lld", (long long)info.creation_date, (long long)info.expiry_date);
    lxi_str key, value;
    for (size_t i = 0; i < info.properties; i++) {
        lxi_str again;
        if (lxi_metadata_property_at(metadata, i, &key, &value, NULL) != LXI_OK ||
            lxi_metadata_property(metadata, key, &again, NULL) != LXI_OK || again.data != value.data)
            broken("a property is not found by its name", "");
        fputs("= property", stdout);
        quote_str(key);
        quote_str(value);
        line_end();
    }
    if (lxi_metadata_property_at(metadata, info.properties, &key, &value, NULL) != LXI_NOT_FOUND)
        broken("a property past the last one", "");
    for (size_t i = 0; i < info.rules; i++) {
        lxi_rule_info rule = {.size = sizeof rule};
        if (lxi_metadata_rule_at(metadata, i, &rule, NULL) != LXI_OK)
            broken("a rule is missing", "");
        fputs("= rule", stdout);
        quote_str(rule.path);
        quote_str(rule.template_name);
        printf(" create_only %s uid", yes(rule.create_only));
        quote_str(rule.uid);
        fputs(" gid", stdout);
        quote_str(rule.gid);
        fputs(" mode", stdout);
        quote_str(rule.mode);
        line_end();
        for (size_t j = 0; j < rule.when; j++) {
            lxi_metadata_rule_when_at(metadata, i, j, &key, NULL);
            fputs("= when", stdout);
            quote_str(key);
            line_end();
        }
        for (size_t j = 0; j < rule.properties; j++) {
            lxi_metadata_rule_property_at(metadata, i, j, &key, &value, NULL);
            fputs("= set", stdout);
            quote_str(key);
            quote_str(value);
            line_end();
        }
    }
    lxi_buffer *yaml = NULL;
    lxi_bytes bytes;
    if (lxi_metadata_to_yaml(metadata, &yaml, NULL) != LXI_OK || lxi_buffer_get(yaml, &bytes, NULL) != LXI_OK)
        broken("a metadata can't be written", "");
    fputs("= yaml", stdout);
    quote(bytes);
    line_end();
    lxi_buffer_free(yaml);
}

static void show_buffer(lxi_buffer *buffer) {
    lxi_bytes bytes;
    if (lxi_buffer_get(buffer, &bytes, NULL) != LXI_OK)
        broken("a buffer without bytes", "");
    begin();
    quote(bytes);
    line_end();
    lxi_buffer_free(buffer);
}

/* Opens an image; NULL after an error was shown. */
static lxi_image *open_image(struct place *place, const struct words *words, size_t first) {
    struct files files;
    lxi_image *image = NULL;
    lxi_error *error = NULL;
    open_files(&files, words, first);
    lxi_input *second = files.count > 1 ? &files.input[1] : NULL;
    lxi_status status = lxi_image_open(&files.input[0], second, place->limits, &image, &error);
    /* They are borrowed: the image has its own. */
    close_files(&files);
    if (failed(status, &error) && image != NULL)
        broken("an image of a call that failed", "");
    return image;
}

void show_verification(const lxi_verify_report *verification, int all) {
    lxi_verify_info info = {.size = sizeof info};
    if (lxi_verify_report_get(verification, &info, NULL) != LXI_OK)
        broken("a verification says nothing", "");
    fputs("= fingerprint ", stdout);
    show_fingerprint(&info.fingerprint);
    line_end();
    line("type %s", info.image_type == LXI_TYPE_CONTAINER ? "container" : "virtual-machine");
    lxi_metadata *metadata = NULL;
    lxi_status status = lxi_verify_report_metadata(verification, &metadata, NULL);
    if (info.has_metadata != (status == LXI_OK))
        broken("metadata where there is none, or none where there is", "");
    fputs("= metadata", stdout);
    if (info.has_metadata) {
        lxi_metadata_info about = {.size = sizeof about};
        lxi_metadata_get(metadata, &about, NULL);
        quote_str(about.architecture);
    } else {
        fputs(" -", stdout);
    }
    line_end();
    lxi_metadata_free(metadata);
    if (!all)
        return;
    line("files %llu directories %llu symlinks %llu hard_links %llu devices %llu others %llu bytes %llu",
         (unsigned long long)info.files, (unsigned long long)info.directories, (unsigned long long)info.symlinks,
         (unsigned long long)info.hard_links, (unsigned long long)info.devices, (unsigned long long)info.others,
         (unsigned long long)info.content_bytes);
    lxi_bytes bytes;
    for (size_t i = 0; i < info.templates; i++) {
        lxi_verify_report_template_at(verification, i, &bytes, NULL);
        fputs("= template", stdout);
        quote(bytes);
        line_end();
    }
    for (size_t i = 0; i < info.strays; i++) {
        lxi_verify_report_stray_at(verification, i, &bytes, NULL);
        fputs("= stray", stdout);
        quote(bytes);
        line_end();
    }
    for (size_t i = 0; i < info.findings; i++) {
        lxi_error_info finding = {.size = sizeof finding};
        lxi_verify_report_finding_at(verification, i, &finding, NULL);
        fputs("= finding ", stdout);
        show_kind(&finding);
        line_end();
    }
}

static lxi_status show_entry(void *user, const lxi_entry *entry) {
    static const char letters[] = "?-dlhcbps";
    ++*(size_t *)user;
    printf("= %c", letters[entry->kind]);
    quote(entry->path);
    printf(" %04o %u:%u %llu", entry->mode, entry->uid, entry->gid, (unsigned long long)entry->bytes);
    quote(entry->target);
    line_end();
    return LXI_OK;
}

/* Reads 7 bytes at a time. */
static lxi_status trickle(void *user, uint8_t *buffer, size_t capacity, size_t *got) {
    ssize_t count = read(*(int *)user, buffer, capacity < 7 ? capacity : 7);
    if (count < 0)
        return LXI_IO;
    *got = (size_t)count;
    return LXI_OK;
}

static void release(void *user) {
    close(*(int *)user);
    *(int *)user = -2;
}

static void stream(struct place *place, const struct words *words) {
    struct files files;
    lxi_image *image = NULL;
    lxi_error *error = NULL;
    int fds[2];
    open_files(&files, words, 1);
    for (size_t i = 0; i < files.count; i++) {
        fds[i] = files.input[i].fd;
        files.input[i] = (lxi_input){.size = sizeof(lxi_input), .kind = LXI_INPUT_STREAM, .read = trickle, .user = &fds[i], .release = release};
    }
    lxi_input *second = files.count > 1 ? &files.input[1] : NULL;
    if (!failed(lxi_image_open(&files.input[0], second, place->limits, &image, &error), &error)) {
        lxi_verify_report *verification = NULL;
        lxi_verify_options options = {.size = sizeof options, .monitor = &place->monitor};
        if (!failed(lxi_image_verify(image, &options, &verification, &error), &error)) {
            lxi_verify_info info = {.size = sizeof info};
            lxi_verify_report_get(verification, &info, NULL);
            fputs("= fingerprint ", stdout);
            show_fingerprint(&info.fingerprint);
            line_end();
        }
        lxi_verify_report_free(verification);
        lxi_image_free(image);
    }
    for (size_t i = 0; i < files.count; i++)
        if (fds[i] != -2)
            broken("a stream was not released", "");
}

static void unpack(struct place *place, const struct words *words) {
    lxi_fingerprint expected;
    const lxi_fingerprint *found;
    lxi_unpacked *unpacked = NULL;
    lxi_error *error = NULL;
    lxi_unpack_options options = {.size = sizeof options, .monitor = &place->monitor};
    lxi_image *image = open_image(place, words, 3);
    if (image != NULL && !fingerprint_of(word(words, 1), &expected, &found)) {
        lxi_status status = found != NULL
                                ? lxi_image_unpack_verified(image, word(words, 2), found, &options, &unpacked, &error)
                                : lxi_image_unpack_unverified(image, word(words, 2), &options, &unpacked, &error);
        if (!failed(status, &error)) {
            lxi_unpacked_info info = {.size = sizeof info};
            lxi_unpacked_get(unpacked, &info, NULL);
            line("entries %llu bytes %llu", (unsigned long long)info.entries, (unsigned long long)info.bytes);
        }
    }
    lxi_unpacked_free(unpacked);
    lxi_image_free(image);
}

static void show_last(lxi_str path) {
    const char *slash = memrchr(path.data, '/', path.len);
    begin();
    quote_str(slash == NULL ? path : (lxi_str){slash + 1, (size_t)(path.data + path.len - slash - 1)});
    line_end();
}

static void stage(struct place *place, const struct words *words) {
    lxi_fingerprint expected;
    const lxi_fingerprint *found;
    lxi_staged *staged = NULL;
    lxi_unpacked *unpacked = NULL;
    lxi_error *error = NULL;
    lxi_unpack_options options = {.size = sizeof options, .monitor = &place->monitor};
    lxi_image *image = open_image(place, words, 4);
    if (image != NULL && !failed(lxi_image_stage(image, word(words, 2), &options, &staged, &error), &error) &&
        !fingerprint_of(word(words, 1), &expected, &found)) {
        if (lxi_staged_commit(staged, word(words, 3), NULL, NULL) != LXI_INVALID_INPUT)
            broken("what nobody verified was committed", "");
        lxi_status status =
            found != NULL ? lxi_staged_verify(staged, found, &error) : lxi_staged_accept_unverified(staged, &error);
        if (!failed(status, &error) && !failed(lxi_staged_commit(staged, word(words, 3), &unpacked, &error), &error)) {
            lxi_unpacked_info info = {.size = sizeof info};
            lxi_unpacked_get(unpacked, &info, NULL);
            show_last(info.path);
        }
    }
    lxi_unpacked_free(unpacked);
    lxi_staged_free(staged);
    lxi_image_free(image);
}

static void show_written(lxi_written *written, int fingerprint) {
    lxi_written_info info = {.size = sizeof info};
    lxi_written_get(written, &info, NULL);
    if (fingerprint) {
        fputs("= fingerprint ", stdout);
        show_fingerprint(&info.fingerprint);
        line_end();
    }
    lxi_written_free(written);
}

static void convert(struct place *place, const struct words *words) {
    lxi_convert_options options = {.size = sizeof options, .monitor = &place->monitor};
    if (!is(word(words, 1), "-"))
        options.form = is(word(words, 1), "split") ? LXI_FORM_SPLIT : LXI_FORM_UNIFIED;
    if (!is(word(words, 2), "-"))
        options.rootfs_format = is(word(words, 2), "squashfs") ? LXI_ROOTFS_SQUASHFS : LXI_ROOTFS_TAR;
    if (!is(word(words, 3), "-"))
        options.compression = word(words, 3);
    lxi_written *written = NULL;
    lxi_error *error = NULL;
    lxi_image *image = open_image(place, words, 5);
    if (image != NULL && !failed(lxi_image_convert(image, &options, word(words, 4), &written, &error), &error))
        show_written(written, is(word(words, 3), "none"));
    lxi_image_free(image);
}

static void pack(struct place *place, const struct words *words) {
    lxi_pack_options options = {.size = sizeof options, .tree = word(words, 1), .metadata_yaml = bytes_of(word(words, 2)), .compression = word(words, 3), .monitor = &place->monitor};
    lxi_written *written = NULL;
    lxi_error *error = NULL;
    if (!failed(lxi_pack(&options, word(words, 4), &written, &error), &error))
        show_written(written, 0);
}

static void differ(struct place *place, const struct words *words) {
    struct words one = {2, {word(words, 1), word(words, 1)}}, other = {2, {word(words, 2), word(words, 2)}};
    lxi_image *first = open_image(place, &one, 1), *second = open_image(place, &other, 1);
    lxi_verify_options options = {.size = sizeof options, .monitor = &place->monitor};
    lxi_differences *found = NULL;
    lxi_error *error = NULL;
    size_t count = 0;
    if (first != NULL && second != NULL && !failed(lxi_image_differences(first, second, &options, &found, &count, &error), &error)) {
        for (size_t i = 0; i < count; i++) {
            static const char *const kinds[] = {"?", "first", "second", "changed"};
            lxi_difference_info info = {.size = sizeof info};
            lxi_differences_at(found, i, &info, NULL);
            printf("= %s", kinds[info.kind]);
            quote(info.path);
            for (size_t j = 0; j < info.attributes; j++) {
                lxi_str name, a, b;
                lxi_differences_attribute_at(found, i, j, &name, &a, &b, NULL);
                printf(" %.*s", (int)name.len, name.data);
            }
            line_end();
        }
    }
    lxi_differences_free(found);
    lxi_image_free(first);
    lxi_image_free(second);
}

static void cat(lxi_str path) {
    FILE *in = fopen(chars(path), "rb");
    if (in == NULL) {
        puts("! NotFound");
        return;
    }
    static uint8_t bytes[1 << 16];
    size_t count = fread(bytes, 1, sizeof bytes, in);
    fclose(in);
    begin();
    quote((lxi_bytes){bytes, count});
    line_end();
}

static void look(struct place *place, const struct words *words) {
    lxi_image *image = open_image(place, words, 1);
    if (image == NULL)
        return;
    lxi_image_info info = {.size = sizeof info};
    if (lxi_image_get(image, &info, NULL) != LXI_OK)
        broken("an image says nothing", "");
    lxi_str none = LXI_STR("-");
    lxi_str codec = info.codec.len > 0 ? info.codec : none, rootfs = info.rootfs_codec.len > 0 ? info.rootfs_codec : none;
    line("form %s container %.*s codec %.*s", info.form == LXI_FORM_UNIFIED ? "unified" : "split", (int)info.container.len,
         info.container.data, (int)codec.len, codec.data);
    if (info.rootfs_container.len > 0)
        line("rootfs %.*s codec %.*s", (int)info.rootfs_container.len, info.rootfs_container.data, (int)rootfs.len, rootfs.data);
    lxi_image_free(image);
}

static void build(const struct words *words) {
    lxi_metadata *metadata = NULL;
    lxi_error *error = NULL;
    if (failed(lxi_metadata_new(word(words, 1), strtoll(chars(word(words, 2)), NULL, 10), &metadata, &error), &error))
        return;
    for (size_t i = 3; i < words->count; i++) {
        lxi_str pair = word(words, i);
        const char *equals = memchr(pair.data, '=', pair.len);
        lxi_str key = {pair.data, (size_t)(equals - pair.data)}, value = {equals + 1, pair.len - key.len - 1};
        if (failed(lxi_metadata_set_property(metadata, key, value, &error), &error))
            return;
    }
    show_metadata(metadata);
    lxi_metadata_free(metadata);
}

int image_step(struct place *place, const struct words *words) {
    lxi_str name = word(words, 0);
    lxi_error *error = NULL;
    lxi_image *image = NULL;
    lxi_metadata *metadata = NULL;
    lxi_buffer *buffer = NULL;
    lxi_fingerprint fingerprint;
    if (is(name, "parse-fingerprint")) {
        if (!failed(lxi_fingerprint_parse(word(words, 1), &fingerprint, &error), &error)) {
            fputs("= ", stdout);
            show_fingerprint(&fingerprint);
            line_end();
        }
    } else if (is(name, "fingerprint")) {
        struct files files;
        open_files(&files, words, 1);
        lxi_input *second = files.count > 1 ? &files.input[1] : NULL;
        if (!failed(lxi_fingerprint_of(&files.input[0], second, &place->monitor, &fingerprint, &error), &error)) {
            fputs("= ", stdout);
            show_fingerprint(&fingerprint);
            line_end();
        }
        close_files(&files);
    } else if (is(name, "metadata")) {
        if (!failed(lxi_metadata_parse(bytes_of(word(words, 1)), place->limits, &metadata, &error), &error))
            show_metadata(metadata);
    } else if (is(name, "build")) {
        build(words);
    } else if (is(name, "image")) {
        look(place, words);
    } else if (is(name, "image-stream")) {
        stream(place, words);
    } else if (is(name, "image-metadata")) {
        image = open_image(place, words, 1);
        if (image != NULL && !failed(lxi_image_metadata(image, &metadata, &error), &error))
            show_metadata(metadata);
    } else if (is(name, "image-template")) {
        image = open_image(place, words, 2);
        if (image != NULL && !failed(lxi_image_template(image, word(words, 1), &buffer, &error), &error))
            show_buffer(buffer);
    } else if (is(name, "verify")) {
        lxi_verify_report *verification = NULL;
        lxi_verify_options options = {.size = sizeof options, .monitor = &place->monitor};
        image = open_image(place, words, 1);
        if (image != NULL && !failed(lxi_image_verify(image, &options, &verification, &error), &error))
            show_verification(verification, 1);
        lxi_verify_report_free(verification);
    } else if (is(name, "entries")) {
        size_t seen = 0;
        lxi_verify_options options = {.size = sizeof options, .monitor = &place->monitor};
        image = open_image(place, words, 1);
        if (image != NULL)
            failed(lxi_image_survey(image, &options, show_entry, &seen, NULL, &error), &error);
    } else if (is(name, "unpack")) {
        unpack(place, words);
    } else if (is(name, "stage")) {
        stage(place, words);
    } else if (is(name, "cat")) {
        cat(word(words, 1));
    } else if (is(name, "exists")) {
        struct stat about;
        line("%s", yes(lstat(chars(word(words, 1)), &about) == 0));
    } else if (is(name, "convert")) {
        convert(place, words);
    } else if (is(name, "pack")) {
        pack(place, words);
    } else if (is(name, "differences")) {
        differ(place, words);
    } else {
        return 0;
    }
    lxi_metadata_free(metadata);
    lxi_image_free(image);
    return 1;
}
