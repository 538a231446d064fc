/* render_templates IMAGE NAME: shows what an image's templates would write into a container of that name.
 * render_templates --apply DIRECTORY NAME: writes it into an image that was unpacked there. */
#include <lxd_image.h>
#include <stdio.h>
#include <string.h>

static lxi_str text(const char *words) {
    return (lxi_str){words, strlen(words)};
}

static int failed(lxi_error *error) {
    lxi_error_info info = {.size = sizeof info};
    if (lxi_error_get(error, &info) == LXI_OK)
        fprintf(stderr, "error: %.*s\n", (int)info.message.len, info.message.data);
    lxi_error_free(error);
    return 1;
}

/* What templates know of the instance, as JSON. A name of a container has no character that JSON escapes. */
static lxi_status context_for(const char *name, lxi_template_context **context, lxi_error **error) {
    char json[512];
    int length = snprintf(json, sizeof json,
                          "{\"container\": {\"name\": \"%s\", \"type\": \"container\", \"architecture\": \"x86_64\","
                          " \"privileged\": \"false\", \"ephemeral\": \"false\"}, \"config\": {}}",
                          name);
    if (length < 0 || (size_t)length >= sizeof json)
        length = 0;
    return lxi_template_context_from_json((lxi_bytes){(const uint8_t *)json, (size_t)length}, context, error);
}

/* Renders one template of the image and shows it. */
static int show(const lxi_image *image, const lxi_rule_info *rule, const lxi_template_context *context) {
    lxi_buffer *source = NULL, *rendered = NULL;
    lxi_template *parsed = NULL;
    lxi_error *error = NULL;
    lxi_bytes bytes;
    int result = 0;
    if (lxi_image_template(image, rule->template_name, &source, &error) == LXI_OK &&
        lxi_buffer_get(source, &bytes, &error) == LXI_OK &&
        lxi_template_parse(bytes, LXI_DIALECT_LXD, 0, NULL, &parsed, &error) == LXI_OK &&
        lxi_template_render(parsed, context, NULL, &rendered, &error) == LXI_OK &&
        lxi_buffer_get(rendered, &bytes, &error) == LXI_OK)
        fwrite(bytes.data, 1, bytes.len, stdout);
    else
        result = failed(error);
    lxi_buffer_free(rendered);
    lxi_template_free(parsed);
    lxi_buffer_free(source);
    return result;
}

static int render(const char *path, const lxi_template_context *context) {
    lxi_input input = {.size = sizeof input, .kind = LXI_INPUT_PATH, .path = text(path)};
    lxi_image *image = NULL;
    lxi_metadata *metadata = NULL;
    lxi_error *error = NULL;
    int result = 0;
    if (lxi_image_open(&input, NULL, NULL, &image, &error) || lxi_image_metadata(image, &metadata, &error)) {
        lxi_image_free(image);
        return failed(error);
    }
    lxi_rule_info rule = {.size = sizeof rule};
    for (size_t i = 0; lxi_metadata_rule_at(metadata, i, &rule, NULL) == LXI_OK; i++) {
        printf("%.*s (%.*s, at", (int)rule.path.len, rule.path.data, (int)rule.template_name.len, rule.template_name.data);
        lxi_str event;
        for (size_t j = 0; lxi_metadata_rule_when_at(metadata, i, j, &event, NULL) == LXI_OK; j++)
            printf(" %.*s", (int)event.len, event.data);
        printf("):\n");
        result |= show(image, &rule, context);
    }
    lxi_metadata_free(metadata);
    lxi_image_free(image);
    return result;
}

static int apply(const char *directory, const lxi_template_context *context) {
    static const char *const words[] = {"?", "created", "replaced", "unchanged", "skipped", "failed"};
    lxi_applied *applied = NULL;
    lxi_error *error = NULL;
    lxi_status status = lxi_apply(text(directory), NULL, LXI_STR("create"), context, NULL, &applied, &error);
    /* What became of the rules is told after a failure too. */
    lxi_outcome outcome = {.size = sizeof outcome};
    for (size_t i = 0; applied != NULL && lxi_applied_at(applied, i, &outcome, NULL) == LXI_OK; i++)
        printf("%s %.*s: %.*s\n", words[outcome.action], (int)outcome.path.len, outcome.path.data, (int)outcome.reason.len, outcome.reason.data);
    lxi_applied_free(applied);
    return status ? failed(error) : 0;
}

int main(int argc, char **argv) {
    int applying = argc == 4 && strcmp(argv[1], "--apply") == 0;
    if (!applying && argc != 3) {
        fprintf(stderr, "usage: %s IMAGE NAME\n       %s --apply DIRECTORY NAME\n", argv[0], argv[0]);
        return 2;
    }
    lxi_template_context *context = NULL;
    lxi_error *error = NULL;
    if (context_for(argv[argc - 1], &context, &error))
        return failed(error);
    int result = applying ? apply(argv[2], context) : render(argv[1], context);
    lxi_template_context_free(context);
    return result;
}
