/* Steps about templates. */
#include "cases.h"

static lxi_dialect dialect(lxi_str word) {
    return is(word, "incus") ? LXI_DIALECT_INCUS : LXI_DIALECT_LXD;
}

static void render(struct place *place, lxi_dialect dialect, uint32_t flags, lxi_str source, lxi_str json, int named) {
    lxi_template *parsed = NULL;
    lxi_template_context *context = NULL;
    lxi_buffer *text = NULL;
    lxi_error *error = NULL;
    lxi_status status = named ? lxi_template_context_from_json(bytes_of(json), &context, &error)
                              : lxi_template_context_from_variables(bytes_of(json), &context, &error);
    if (!failed(status, &error) &&
        !failed(lxi_template_parse(bytes_of(source), dialect, flags, place->limits, &parsed, &error), &error) &&
        !failed(lxi_template_render(parsed, context, place->limits, &text, &error), &error)) {
        lxi_bytes bytes;
        lxi_buffer_get(text, &bytes, NULL);
        begin();
        quote(bytes);
        line_end();
    }
    lxi_buffer_free(text);
    lxi_template_free(parsed);
    lxi_template_context_free(context);
}

static void apply(struct place *place, const struct words *words) {
    static const char *const actions[] = {"?", "created", "replaced", "unchanged", "skipped", "failed"};
    lxi_apply_options options = {.size = sizeof options, .limits = place->limits, .monitor = &place->monitor};
    lxi_template_context *context = NULL;
    lxi_applied *applied = NULL;
    lxi_error *error = NULL;
    if (failed(lxi_template_context_from_json(bytes_of(word(words, 3)), &context, &error), &error))
        return;
    lxi_status status = lxi_apply(word(words, 1), NULL, word(words, 2), context, &options, &applied, &error);
    size_t count = 0;
    /* There after a failure too, unless it came before any rule. */
    if (applied != NULL)
        lxi_applied_len(applied, &count, NULL);
    for (size_t i = 0; i < count; i++) {
        lxi_outcome outcome = {.size = sizeof outcome};
        lxi_applied_at(applied, i, &outcome, NULL);
        printf("= %s", actions[outcome.action]);
        quote_str(outcome.path);
        quote_str(outcome.template_name);
        line_end();
    }
    failed(status, &error);
    lxi_applied_free(applied);
    lxi_template_context_free(context);
}

int template_step(struct place *place, const struct words *words) {
    lxi_str name = word(words, 0);
    if (is(name, "template")) {
        render(place, dialect(word(words, 1)), 0, word(words, 2), word(words, 3), 1);
    } else if (is(name, "variables")) {
        uint32_t flags = is(word(words, 2), "raw") ? LXI_TEMPLATE_RAW : 0;
        render(place, dialect(word(words, 1)), flags, word(words, 3), word(words, 4), 0);
    } else if (is(name, "apply")) {
        apply(place, words);
    } else {
        return 0;
    }
    return 1;
}
