/* verify_and_unpack IMAGE [ROOTFS] DESTINATION FINGERPRINT: says what an image is and every rule that it breaks, then
 * unpacks it, so that nothing is visible at the destination unless the bytes have the fingerprint. */
#include <fcntl.h>
#include <lxd_image.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

/* Text of the command line as an argument. */
static lxi_str text(const char *words) {
    return (lxi_str){words, strlen(words)};
}

/* Tells what went wrong, and frees the error. */
static int failed(lxi_error *error) {
    lxi_error_info info = {.size = sizeof info};
    if (lxi_error_get(error, &info) == LXI_OK) {
        fprintf(stderr, "error: %.*s\n", (int)info.message.len, info.message.data);
        if (info.hint.len > 0)
            fprintf(stderr, "hint: %.*s\n", (int)info.hint.len, info.hint.data);
    }
    lxi_error_free(error);
    return 1;
}

/* Called from several threads, so it only prints. Anything but 0 would stop the call. */
static int32_t progress(void *user, const lxi_progress *now) {
    (void)user;
    if (now->has_total && now->total > 0 && isatty(2))
        fprintf(stderr, "\r%3d%%", (int)(now->done * 100 / now->total));
    return 0;
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5) {
        fprintf(stderr, "usage: %s IMAGE [ROOTFS] DESTINATION FINGERPRINT\n", argv[0]);
        return 2;
    }
    const char *destination = argv[argc - 2];
    lxi_error *error = NULL;
    lxi_fingerprint expected;
    if (lxi_fingerprint_parse(text(argv[argc - 1]), &expected, &error))
        return failed(error);

    /* One file or two. Descriptors are borrowed: they can be closed as soon as the image is open. */
    lxi_input inputs[2] = {{.size = sizeof(lxi_input), .kind = LXI_INPUT_FD}, {.size = sizeof(lxi_input), .kind = LXI_INPUT_FD}};
    int files = argc - 3;
    for (int i = 0; i < files; i++) {
        inputs[i].name = text(argv[i + 1]);
        inputs[i].fd = open(argv[i + 1], O_RDONLY | O_CLOEXEC);
        if (inputs[i].fd < 0) {
            perror(argv[i + 1]);
            return 1;
        }
    }
    lxi_image *image = NULL;
    lxi_status status = lxi_image_open(&inputs[0], files == 2 ? &inputs[1] : NULL, NULL, &image, &error);
    for (int i = 0; i < files; i++)
        close(inputs[i].fd);
    if (status)
        return failed(error);

    /* What it is, from its metadata: nothing is unpacked for that. */
    lxi_metadata *metadata = NULL;
    if (lxi_image_metadata(image, &metadata, &error)) {
        lxi_image_free(image);
        return failed(error);
    }
    lxi_metadata_info about = {.size = sizeof about};
    lxi_metadata_get(metadata, &about, NULL);
    printf("architecture: %.*s\n", (int)about.architecture.len, about.architecture.data);
    for (size_t i = 0; i < about.properties; i++) {
        lxi_str key, value;
        lxi_metadata_property_at(metadata, i, &key, &value, NULL);
        printf("%.*s: %.*s\n", (int)key.len, key.data, (int)value.len, value.data);
    }
    lxi_metadata_free(metadata);

    /* All of it read and judged, and nothing written. */
    lxi_monitor monitor = {.size = sizeof monitor, .progress = progress};
    lxi_verify_options verify = {.size = sizeof verify, .monitor = &monitor};
    lxi_verify_report *verification = NULL;
    if (lxi_image_verify(image, &verify, &verification, &error)) {
        lxi_image_free(image);
        return failed(error);
    }
    lxi_verify_info found = {.size = sizeof found};
    lxi_verify_report_get(verification, &found, NULL);
    for (size_t i = 0; i < found.findings; i++) {
        lxi_error_info finding = {.size = sizeof finding};
        lxi_verify_report_finding_at(verification, i, &finding, NULL);
        printf("breaks a rule: %.*s\n", (int)finding.message.len, finding.message.data);
    }
    printf("%llu files, %llu directories\n", (unsigned long long)found.files, (unsigned long long)found.directories);
    lxi_verify_report_free(verification);

    /* One pass: hashed, decoded, checked and written. */
    lxi_unpack_options unpack = {.size = sizeof unpack, .monitor = &monitor};
    lxi_unpacked *unpacked = NULL;
    status = lxi_image_unpack_verified(image, text(destination), &expected, &unpack, &unpacked, &error);
    lxi_image_free(image);
    if (status)
        return failed(error);
    lxi_unpacked_info done = {.size = sizeof done};
    lxi_unpacked_get(unpacked, &done, NULL);
    printf("%llu entries in %.*s\n", (unsigned long long)done.entries, (int)done.path.len, done.path.data);
    for (size_t i = 0; i < done.omission_kinds; i++) {
        lxi_str what;
        uint64_t count;
        lxi_unpacked_omission_kind_at(unpacked, i, &what, &count, NULL);
        printf("left out %llu times: %.*s\n", (unsigned long long)count, (int)what.len, what.data);
    }
    lxi_unpacked_free(unpacked);
    return 0;
}
