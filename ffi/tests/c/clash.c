/* clash STORE: a program with an SQLite, a zstd and an xz of its own, which are not the library's. */
#include <lxd_image.h>
#include <stdio.h>
#include <string.h>

int sqlite3_open(const char *name, void **database);
unsigned ZSTD_versionNumber(void);
unsigned lzma_version_number(void);

int sqlite3_open(const char *name, void **database) {
    (void)name;
    *database = NULL;
    return 77;
}

unsigned ZSTD_versionNumber(void) {
    return 78;
}

unsigned lzma_version_number(void) {
    return 79;
}

int main(int argc, char **argv) {
    lxi_store *store = NULL;
    lxi_image_list *images = NULL;
    lxi_error *error = NULL;
    void *database;
    if (argc != 2)
        return 2;
    lxi_status status = lxi_store_open((lxi_str){argv[1], strlen(argv[1])}, NULL, &store, &error);
    if (status == LXI_OK)
        status = lxi_store_list(store, NULL, 0, &images, &error);
    if (status != LXI_OK) {
        lxi_error_info why = {.size = sizeof why};
        lxi_error_get(error, &why);
        fprintf(stderr, "%.*s\n", (int)why.message.len, why.message.data);
    }
    lxi_image_list_free(images);
    lxi_store_free(store);
    lxi_error_free(error);
    return status != LXI_OK || sqlite3_open("", &database) != 77 || ZSTD_versionNumber() != 78 || lzma_version_number() != 79;
}
