/* unpack IMAGE DESTINATION FINGERPRINT [PACKED]: what ffi/examples/unpack.rs does, by way of the C interface. See benches/ffi.py. */
#include <lxd_image.h>
#include <stdio.h>
#include <string.h>

static lxi_str text(const char *words) {
    return (lxi_str){words, strlen(words)};
}

int main(int argc, char **argv) {
    if (argc != 4 && argc != 5)
        return 2;
    lxi_input input = {.size = sizeof input, .kind = LXI_INPUT_PATH, .path = text(argv[1])};
    lxi_fingerprint expected;
    lxi_image *image = NULL;
    lxi_verify_report *verified = NULL;
    lxi_unpacked *unpacked = NULL;
    lxi_metadata *metadata = NULL;
    lxi_error *error = NULL;
    lxi_status status = lxi_fingerprint_parse(text(argv[3]), &expected, &error);
    if (!status)
        status = lxi_image_open(&input, NULL, NULL, &image, &error);
    if (!status && argc == 5)
        status = lxi_image_verify(image, NULL, &verified, &error);
    if (!status)
        status = lxi_image_unpack_verified(image, text(argv[2]), &expected, NULL, &unpacked, &error);
    if (!status && argc == 5)
        status = lxi_unpacked_metadata(unpacked, &metadata, &error);
    if (!status && argc == 5) {
        char tree[4096];
        snprintf(tree, sizeof tree, "%s/rootfs", argv[2]);
        lxi_pack_options packing = {.size = sizeof packing, .tree = text(tree), .metadata = metadata};
        status = lxi_pack(&packing, text(argv[4]), NULL, &error);
    }
    if (status) {
        lxi_error_info why = {.size = sizeof why};
        lxi_error_get(error, &why);
        fprintf(stderr, "%.*s\n", (int)why.message.len, why.message.data);
    }
    lxi_metadata_free(metadata);
    lxi_verify_report_free(verified);
    lxi_unpacked_free(unpacked);
    lxi_image_free(image);
    lxi_error_free(error);
    return status != LXI_OK;
}
