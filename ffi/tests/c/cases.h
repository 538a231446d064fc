/* What the parts of the runner share: words, output, the place where a case happens. */
#ifndef CASES_H
#define CASES_H

#include <lxd_image.h>
#include <stdio.h>

#define MOST_WORDS 64

/* The words of a step. Each is followed by a NUL, and may hold others. */
struct words {
    size_t count;
    lxi_str word[MOST_WORDS];
};

#define MOST_KEYS 8

/* The keys and the policy of a case. */
struct trust {
    struct {
        char name[32];
        lxi_secret_key *secret;
    } key[MOST_KEYS];
    size_t count;
    lxi_policy *policy;
};

/* The registry and the disk of a case. */
struct oci {
    char url[64];
    int input;
    int process;
    lxi_disk *disk;
};

/* Where a case's steps happen: the working directory is the case's own. */
struct place {
    lxi_limits *limits;
    lxi_store *store;
    lxi_tree *tree;
    lxi_server *server;
    lxi_remote *remote;
    /* A server that caches what the first one has. */
    lxi_server *cache;
    struct trust trust;
    struct oci oci;
    /* Lines that the server logged. */
    size_t logged;
    int64_t clock;
    /* Watches every long call, and knows what they left out. */
    lxi_omissions *omissions;
    lxi_monitor monitor;
};

/* Ends the runner: something is wrong with the case, not with the library. */
_Noreturn void broken(const char *what, const char *which);

/* One line of the result; the words after it are quoted by `quote`. */
void line(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* Begins a line that more is written to, up to `line_end`. */
void begin(void);
void line_end(void);
void quote(lxi_bytes bytes);
void quote_str(lxi_str text);

/* Shows an error as the format does, frees it, and returns 1; does nothing for LXI_OK. Takes the error's place, since
 * the order in which C evaluates arguments is not said. */
int failed(lxi_status status, lxi_error **error);
void show_kind(const lxi_error_info *info);

/* The word with an index; `is` compares one. */
lxi_str word(const struct words *words, size_t index);
int is(lxi_str word, const char *text);
const char *chars(lxi_str word);
lxi_bytes bytes_of(lxi_str word);
/* A fingerprint, NULL for `-`. Returns 1 after an error was shown. */
int fingerprint_of(lxi_str word, lxi_fingerprint *fingerprint, const lxi_fingerprint **found);
void show_fingerprint(const lxi_fingerprint *fingerprint);

/* Inputs by descriptor for the words from `first` on; `close_inputs` closes them. */
struct files {
    lxi_input input[2];
    size_t count;
};
void open_files(struct files *files, const struct words *words, size_t first);
void close_files(struct files *files);

/* Each returns whether it knows the step. */
int prepare_step(struct place *place, const struct words *words);
int image_step(struct place *place, const struct words *words);
int template_step(struct place *place, const struct words *words);
int store_step(struct place *place, const struct words *words);
int tree_step(struct place *place, const struct words *words);
int serving_step(struct place *place, const struct words *words);
int oci_step(struct place *place, const struct words *words);
/* Ends registry and disk of a case. */
void end_oci(struct place *place);
/* Connects to the registry of a case. */
void connect_registry(struct place *place, const struct words *words);
int trust_step(struct place *place, const struct words *words);
/* Frees keys and policy of a case. */
void end_trust(struct place *place);
/* Ends server, remote and tree of a case. */
void end_serving(struct place *place);

/* Shows what a store or a remote knows of an image, and frees it. */
void show_image(lxi_stored_image *image);
/* The clock of stores and trees; `user` is the place's. */
int64_t clock_of(void *user);

/* The first lines of what a verification says, or all. */
void show_verification(const lxi_verify_report *verification, int all);

#endif
