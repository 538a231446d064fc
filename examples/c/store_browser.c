/* store_browser STORE [list FILTER… | show NAME | import IMAGE ALIAS | export NAME TARGET | delete NAME]: a tiny browser of
 * an image store. NAME is an alias or the beginning of a fingerprint. */
#include <lxd_image.h>
#include <stdio.h>
#include <string.h>

static lxi_str text(const char *words) {
    return (lxi_str){words, strlen(words)};
}

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

/* One line: the short fingerprint, what it is for, its aliases. */
static void show_line(const lxi_stored_image *image) {
    lxi_stored_image_info info = {.size = sizeof info};
    char digits[LXI_FINGERPRINT_TEXT];
    lxi_str name, description;
    lxi_stored_image_get(image, &info, NULL);
    lxi_fingerprint_format(&info.fingerprint, digits, sizeof digits, NULL);
    printf("%.12s %.*s %s", digits, (int)info.architecture.len, info.architecture.data,
           info.image_type == LXI_TYPE_CONTAINER ? "container" : "virtual-machine");
    for (size_t i = 0; lxi_stored_image_alias_at(image, i, &name, &description, NULL) == LXI_OK; i++)
        printf(" %.*s", (int)name.len, name.data);
    printf("\n");
}

static int list(const lxi_store *store, lxi_str *filters, size_t count) {
    lxi_image_list *images = NULL;
    lxi_error *error = NULL;
    lxi_stored_image *image = NULL;
    if (lxi_store_list(store, filters, count, &images, &error))
        return failed(error);
    for (size_t i = 0; lxi_image_list_at(images, i, &image, NULL) == LXI_OK; i++) {
        show_line(image);
        lxi_stored_image_free(image);
    }
    lxi_image_list_free(images);
    return 0;
}

static int show(const lxi_stored_image *image) {
    lxi_stored_image_info info = {.size = sizeof info};
    lxi_str key, value;
    show_line(image);
    lxi_stored_image_get(image, &info, NULL);
    printf("bytes: %llu\n", (unsigned long long)info.bytes);
    for (size_t i = 0; lxi_stored_image_property_at(image, i, &key, &value, NULL) == LXI_OK; i++)
        printf("%.*s: %.*s\n", (int)key.len, key.data, (int)value.len, value.data);
    return 0;
}

static int import(const lxi_store *store, const char *path, const char *name) {
    lxi_alias alias = {.name = text(name)};
    lxi_import_options options = {.size = sizeof options, .aliases = &alias, .aliases_len = 1};
    lxi_input input = {.size = sizeof input, .kind = LXI_INPUT_PATH, .path = text(path)};
    lxi_stored_image *image = NULL;
    lxi_error *error = NULL;
    if (lxi_store_import(store, &input, NULL, &options, &image, &error))
        return failed(error);
    lxi_stored_image_info info = {.size = sizeof info};
    char digits[LXI_FINGERPRINT_TEXT];
    lxi_stored_image_get(image, &info, NULL);
    lxi_fingerprint_format(&info.fingerprint, digits, sizeof digits, NULL);
    printf("%s\n", digits);
    lxi_stored_image_free(image);
    return 0;
}

/* What is done with one image that is there. */
static int with_one(const lxi_store *store, int argc, char **argv) {
    const char *verb = argv[2];
    lxi_stored_image *image = NULL;
    lxi_error *error = NULL;
    lxi_status status = LXI_OK;
    if (lxi_store_resolve(store, text(argv[3]), &image, &error))
        return failed(error);
    lxi_stored_image_info info = {.size = sizeof info};
    lxi_stored_image_get(image, &info, NULL);
    if (strcmp(verb, "show") == 0)
        show(image);
    else if (strcmp(verb, "export") == 0 && argc == 5)
        status = lxi_store_export(store, &info.fingerprint, text(argv[4]), NULL, NULL, &error);
    else if (strcmp(verb, "delete") == 0)
        status = lxi_store_delete(store, &info.fingerprint, &error);
    else
        fprintf(stderr, "there is no `%s` here\n", verb);
    lxi_stored_image_free(image);
    return status ? failed(error) : 0;
}

int main(int argc, char **argv) {
    lxi_store *store = NULL;
    lxi_error *error = NULL;
    if (argc < 2) {
        fprintf(stderr, "usage: %s STORE [list FILTER... | show NAME | import IMAGE ALIAS | export NAME TARGET | delete NAME]\n", argv[0]);
        return 2;
    }
    if (lxi_store_open(text(argv[1]), NULL, &store, &error))
        return failed(error);
    int result;
    if (argc == 2 || strcmp(argv[2], "list") == 0) {
        lxi_str filters[16];
        size_t count = 0;
        for (int i = 3; i < argc && count < sizeof filters / sizeof *filters; i++)
            filters[count++] = text(argv[i]);
        result = list(store, filters, count);
    } else if (strcmp(argv[2], "import") == 0 && argc == 5) {
        result = import(store, argv[3], argv[4]);
    } else if (argc >= 4) {
        result = with_one(store, argc, argv);
    } else {
        fprintf(stderr, "`%s` needs an image\n", argv[2]);
        result = 2;
    }
    lxi_store_free(store);
    return result;
}
