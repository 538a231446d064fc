/* lxd_image.h: read, verify, unpack, pack, store and template LXD and Incus images.
 *
 * Made by cbindgen from the sources in `ffi/src`: change those. The comments here are the manual.
 *
 * Rules for every call
 *
 *   - A call returns LXI_OK, or why it failed; its results come last. If a call fails, its results are NULL, zero or
 *     empty unless its comment says otherwise, and a structure to fill is unchanged. Calls that can't
 *     fail are the exception: they return their result.
 *   - The last argument, `lxi_error **error`, may be NULL. Else it is set to NULL, or after a failure to an error that says
 *     what failed, where, and what to do; free it with `lxi_error_free`. There is no error state per thread.
 *   - Text is a pointer and a length: `lxi_str`, in UTF-8; a path of the host is any bytes but NUL. LXI_STR("text") makes
 *     one of a literal. Arguments are borrowed for the call. Results point into a handle, and live until that
 *     handle is changed or freed.
 *   - File descriptors are borrowed for the call, and duplicated where they are needed longer.
 *   - A handle is an opaque pointer, made by one call and freed by its own `_free`, which takes NULL too. Other handles that
 *     were made of it, or that it was made of, don't depend on it.
 *   - A call that takes a handle as a const pointer may run in several threads with the same handle at the same time. One
 *     that takes it as non-const needs it for itself. Handles are bound to no thread.
 *   - Structures of options and of information begin with their size in bytes, which the caller sets: `sizeof` of the
 *     structure. Set the rest of options to zero, and name what you want. A structure that grew in a later version works
 *     with older programs, and a program that was built with a later one gets LXI_INVALID_INPUT if it asks for what this
 *     library does not know.
 *   - Callbacks get the `void *user` that was passed with them, and must return normally: no longjmp, no exception.
 *   - NULL, misaligned pointers, wrong sizes, unknown flags, text that is not UTF-8 or longer than 1 MiB, paths over 4095
 *     bytes, arrays of more than 65536 items and handles of another kind are refused with LXI_INVALID_INPUT; freed and
 *     foreign handles too in debug builds, and in release builds as far as the memory shows it.
 *   - Nothing unwinds into the caller: a panic inside is LXI_PANIC, with its text in the error.
 *
 * Images come from untrusted sources. `lxi_limits` holds every bound; SECURITY.md of the project says what it guarantees.
 *
 * Sections, with their lines:
 *
 *     99  Basics: texts, statuses, errors, buffers
 *    333  Limits
 *    375  Long calls: omissions, progress, cancellation
 *    576  Inputs and outputs
 *    630  Fingerprints
 *    697  Metadata
 *    915  Images as files: open, verify, unpack
 *   1376  Pack, convert, compare
 *   1622  Disks of virtual machines
 *   1765  Templates
 *   2008  Keys, statements, policies
 *   2347  Stores: open, list, find
 *   2744  Stores: import, edit, export, keep in order
 *   3261  OCI layouts and bundles
 *   3388  Settings and remotes
 *   3846  Registries
 *   3910  Static trees and mirrors
 *   4253  Deltas
 *   4320  Servers
 */

#ifndef LXD_IMAGE_H
#define LXD_IMAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A text literal as an argument. */
#ifdef __cplusplus
#define LXI_STR(literal) (lxi_str{(literal), sizeof(literal) - 1})
#else
#define LXI_STR(literal) ((lxi_str){(literal), sizeof(literal) - 1})
#endif

#ifdef __cplusplus
extern "C" {
#endif // __cplusplus

/* The structures, since those of one section are pointed to in others. */
struct lxi_admission; struct lxi_admission_info; struct lxi_alias; struct lxi_alias_list; struct lxi_applied;
struct lxi_apply_options; struct lxi_buffer; struct lxi_bundle_options; struct lxi_bytes; struct lxi_cancel;
struct lxi_candidate; struct lxi_check_info; struct lxi_check_options; struct lxi_check_report;
struct lxi_client_options; struct lxi_convert_options; struct lxi_copy_options; struct lxi_delta_info;
struct lxi_delta_options; struct lxi_difference_info; struct lxi_differences; struct lxi_disk; struct lxi_disk_info;
struct lxi_disk_options; struct lxi_disk_write_options; struct lxi_disk_written; struct lxi_edit; struct lxi_entry;
struct lxi_error; struct lxi_error_info; struct lxi_exported; struct lxi_finding; struct lxi_fingerprint;
struct lxi_hasher; struct lxi_id_range; struct lxi_image; struct lxi_image_cursor; struct lxi_image_info;
struct lxi_image_list; struct lxi_image_query; struct lxi_import_options; struct lxi_input; struct lxi_known_remote;
struct lxi_layout_options; struct lxi_limits; struct lxi_metadata; struct lxi_metadata_info;
struct lxi_mirror_options; struct lxi_mirrored; struct lxi_mirrored_info; struct lxi_monitor; struct lxi_names;
struct lxi_near_misses; struct lxi_omission; struct lxi_omissions; struct lxi_omissions_info; struct lxi_outcome;
struct lxi_pack_options; struct lxi_pair; struct lxi_policy; struct lxi_progress; struct lxi_prune_options;
struct lxi_pruned; struct lxi_public_key; struct lxi_push_options; struct lxi_refresh_options;
struct lxi_refresh_report; struct lxi_remote; struct lxi_remote_list; struct lxi_rule; struct lxi_rule_info;
struct lxi_secret_key; struct lxi_server; struct lxi_server_options; struct lxi_settings; struct lxi_staged;
struct lxi_statement; struct lxi_statement_options; struct lxi_statements; struct lxi_store;
struct lxi_store_options; struct lxi_stored_image; struct lxi_stored_image_info; struct lxi_str; struct lxi_template;
struct lxi_template_context; struct lxi_tree; struct lxi_tree_add_options; struct lxi_tree_image;
struct lxi_tree_listing; struct lxi_tree_options; struct lxi_tree_prune_options; struct lxi_tree_pruned;
struct lxi_tree_report; struct lxi_tree_report_info; struct lxi_unpack_options; struct lxi_unpacked;
struct lxi_unpacked_info; struct lxi_update_source; struct lxi_upload_options; struct lxi_verify_info;
struct lxi_verify_options; struct lxi_verify_report; struct lxi_wanted; struct lxi_warning; struct lxi_written;
struct lxi_written_info; struct lxi_xattr;

/* ==== Basics: texts, statuses, errors, buffers ==== */

// The outcome of a call: LXI_OK, or why it failed. The values never change their meaning; later versions may add some.
typedef int32_t lxi_status;

// It worked.
#define LXI_OK 0

// The thing that was named does not exist; also: an index past the end of a list.
#define LXI_NOT_FOUND 1

// The thing that was to be made is already there.
#define LXI_ALREADY_EXISTS 2

// An argument makes no sense: NULL, misaligned, too long, no UTF-8, of a wrong size, a freed handle or one of another
// kind.
#define LXI_INVALID_INPUT 3

// The bytes are not what their format says they must be.
#define LXI_MALFORMED 4

// The bytes are well formed, but ask for something that this library does not do.
#define LXI_UNSUPPORTED 5

// The piece that would do it was compiled out; the message names the feature.
#define LXI_FEATURE_DISABLED 6

// A digest, a size or an ETag differs from the one that was expected; the error has both.
#define LXI_MISMATCH 7

// A name or a link would lead out of the place it belongs to.
#define LXI_UNSAFE_PATH 8

// A limit was reached; the error names it, and `lxi_limits_set` raises it.
#define LXI_LIMIT_EXCEEDED 9

// Several things match where exactly one is needed.
#define LXI_AMBIGUOUS 10

// Somebody else holds the thing, and the wait that was allowed is over.
#define LXI_BUSY 11

// A template could not be parsed or rendered.
#define LXI_TEMPLATE 12

// A server answered wrongly, late or not at all.
#define LXI_REMOTE 13

// The caller asked to stop, by an `lxi_cancel` or by what a callback returned.
#define LXI_CANCELLED 14

// The operating system refused; the message tells why.
#define LXI_IO 15

// There is no space left on the file system that is written to, or in the quota there.
#define LXI_STORAGE_FULL 16

// Something between here and the data failed in a way that another try may mend.
#define LXI_TRANSIENT 17

// A signature is not valid, a list is not signed by a key of its remote, or the policy does not admit the image.
#define LXI_UNTRUSTED 18

// A defect of this library: it panicked, and the message has the panic's text. Handles that were given to the call as
// non-const pointers can only be freed afterwards. Please report it.
#define LXI_PANIC 100

// An error of a kind that is newer than this list.
#define LXI_OTHER 101

// Text: UTF-8 where it names something in an image or a store, any bytes without NUL where it is a path of the host.
// Not terminated by NUL. As an argument it is borrowed for the call. As a result it points into the handle that gave
// it, until that handle is changed or freed. NULL with length 0 is the empty text.
typedef struct lxi_str {
    // The first byte.
    const char *data;
    // How many bytes.
    size_t len;
} lxi_str;

// Bytes. Borrowed and owned as `lxi_str` is.
typedef struct lxi_bytes {
    // The first byte.
    const uint8_t *data;
    // How many bytes.
    size_t len;
} lxi_bytes;

// A name with its value.
typedef struct lxi_pair {
    // The name.
    struct lxi_str key;
    // The value.
    struct lxi_str value;
} lxi_pair;

// The name of an image: the sha256 of its bytes as stored; of a split image, of the metadata file's bytes followed by
// the rootfs file's.
typedef struct lxi_fingerprint {
    // The digest.
    uint8_t bytes[32];
} lxi_fingerprint;

// A run of owners: `count` numbers from `inside` (the image) become those from `outside` (the host).
typedef struct lxi_id_range {
    // First number in the image.
    uint32_t inside;
    // First number on the host.
    uint32_t outside;
    // How many.
    uint32_t count;
} lxi_id_range;

// Whether an image is one file or two: LXI_FORM_….
typedef uint32_t lxi_form;

// As an option: whichever is usual. Never a result.
#define LXI_FORM_DEFAULT 0

// One archive with metadata and rootfs.
#define LXI_FORM_UNIFIED 1

// A metadata archive and a rootfs file.
#define LXI_FORM_SPLIT 2

// Whether an image is for a container or for a virtual machine: LXI_TYPE_….
typedef uint32_t lxi_image_type;

// The rootfs is a tree of files.
#define LXI_TYPE_CONTAINER 1

// The rootfs is a disk.
#define LXI_TYPE_VIRTUAL_MACHINE 2

// The version of this interface: it grows by one when programs have to be compiled anew. Compare it with what
// `lxi_abi_version` returns to find a library that does not fit its header.
#define LXI_ABI_VERSION 1

// The version of the interface that the library has.
//
// Threads: any. Can't fail.
uint32_t lxi_abi_version(void);

// The version of the library, such as `0.2.0`, terminated by NUL.
//
// Owner: the library; never freed. Threads: any. Can't fail.
const char *lxi_version(void);

// The name of a status, such as `UnsafePath`, terminated by NUL; `Unknown` for an unknown number.
//
// Owner: the library; never freed. Threads: any. Can't fail.
const char *lxi_status_name(lxi_status status);

// Whether a part of the library was compiled in: a codec such as `gzip` or `zstd`, `disk`, `oci`,
// `remote`, `server`, `signatures`, `store`, `templates`, `trust`, `object-store`, `postgres`. A name
// that this version does not know is not there either.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_has_feature(struct lxi_str name, bool *yes, struct lxi_error **error);

// Why a call failed. Made by the call that failed, owned by its caller, and not bound to a thread: free it with
// `lxi_error_free`.
typedef struct lxi_error lxi_error;

// What an error says; filled by `lxi_error_get`. Set `size` to `sizeof(lxi_error_info)` before. The texts live as long
// as the handle that they were asked of, and are empty where nothing is known.
typedef struct lxi_error_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // What the call returned.
    lxi_status status;
    // Where in a template it failed: LXI_STAGE_….
    uint32_t template_stage;
    // All of it in one line, for people: file, entry, what is wrong, offset, cause. Safe to print: what a terminal
    // could act on is escaped.
    struct lxi_str message;
    // What is wrong, without file, entry, offset and cause. Not escaped.
    struct lxi_str sentence;
    // What a person can do about it.
    struct lxi_str hint;
    // The file that it happened in: bytes of its path.
    struct lxi_str file;
    // The member of an archive or tree that it happened in: bytes of its name.
    struct lxi_str entry;
    // For LXI_MISMATCH: the value that was expected.
    struct lxi_str expected;
    // For LXI_MISMATCH: the value that was found.
    struct lxi_str found;
    // For LXI_LIMIT_EXCEEDED: the name of the limit.
    struct lxi_str limit;
    // The position in the decoded stream in bytes, if `has_offset`.
    uint64_t offset;
    // The line in a template, from 1; 0 where it is not known.
    uint32_t line;
    // The column in that line in bytes, from 1; 0 where it is not known.
    uint32_t column;
    // Whether `offset` is known.
    bool has_offset;
} lxi_error_info;

// The error is not one of a template.
#define LXI_STAGE_NONE 0

// The template is not well formed.
#define LXI_STAGE_PARSE 1

// The template is well formed, but could not be rendered with what it was given.
#define LXI_STAGE_EXEC 2

// Fills `info` with what the error says.
//
// Owner: the texts belong to the error. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_error_get(const struct lxi_error *error, struct lxi_error_info *info);

// Frees an error; NULL is allowed.
//
// Threads: any, the error being no longer used. Errors: LXI_INVALID_INPUT for what is no error, or was freed (debug
// builds).
lxi_status lxi_error_free(struct lxi_error *error);

// Bytes that a call returned: a rendered template, a YAML text, a path. Read-only, so it may be shared between
// threads.
typedef struct lxi_buffer lxi_buffer;

// The bytes of a buffer.
//
// Owner: the buffer. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_buffer_get(const struct lxi_buffer *buffer, struct lxi_bytes *bytes, struct lxi_error **error);

// Frees a buffer; NULL is allowed.
//
// Threads: any, the buffer being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_buffer_free(struct lxi_buffer *buffer);

/* ==== Limits ==== */

// What input may ask for: every bound on an image from a stranger. Calls that take one copy it; NULL stands for the
// defaults, which suit images from anywhere.
typedef struct lxi_limits lxi_limits;

// Makes limits with the default values.
//
// Owner: the caller, who frees it with `lxi_limits_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_limits_new(struct lxi_limits **limits, struct lxi_error **error);

// Makes limits for images whose maker is trusted: what guards memory, disk and time is lifted as far as the formats
// go. Rules about paths are not limits and always hold.
//
// Owner: the caller, who frees it with `lxi_limits_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_limits_new_trusted(struct lxi_limits **limits, struct lxi_error **error);

// Sets one limit by its name. Bytes, unless it counts something else; `lxi_limits_name_at` lists the names. Two bound
// what goes to temporary files: over `diff_memory` comparing two images uses one, and `spool` is the most of a
// SquashFS that comes as a stream.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for an unknown name, and for 0.
lxi_status lxi_limits_set(struct lxi_limits *limits, struct lxi_str name, uint64_t value, struct lxi_error **error);

// The value of one limit.
//
// Threads: any. Errors: LXI_INVALID_INPUT for an unknown name.
lxi_status lxi_limits_get(const struct lxi_limits *limits,
                          struct lxi_str name,
                          uint64_t *value,
                          struct lxi_error **error);

// The name of the limit with an index from 0.
//
// Owner: the library; never freed. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_limits_name_at(size_t index, struct lxi_str *name, struct lxi_error **error);

// Frees limits; NULL is allowed.
//
// Threads: any, the limits being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_limits_free(struct lxi_limits *limits);

/* ==== Long calls: omissions, progress, cancellation ==== */

// A record of what calls leave out, change, default or cannot honour. Name it in the `lxi_monitor` of one call or of
// many, also of several threads at the same time; also a call that fails records what it left out until then.
typedef struct lxi_omissions lxi_omissions;

// The kind of an omission: LXI_OMISSION_….
typedef uint32_t lxi_omission_kind;

// A value that this version of the list does not know.
#define LXI_OMISSION_OTHER 0

// A device node, not created: not permitted here, or not wanted.
#define LXI_OMISSION_DEVICE 1

// The owner, left as the caller's own: only root can give files away.
#define LXI_OMISSION_OWNER 2

// Setuid and setgid bits, left off because the owner is not the image's.
#define LXI_OMISSION_SET_ID 3

// An extended attribute.
#define LXI_OMISSION_XATTR 4

// The modification time, which the file system would not take.
#define LXI_OMISSION_TIME 5

// The whole entry, which stands at the top of the archive and is not part of an image.
#define LXI_OMISSION_STRAY 6

// The whole object.
#define LXI_OMISSION_SKIPPED 7

// One part of the object: an alias, a property, an attribute of a set.
#define LXI_OMISSION_DROPPED 8

// A value that was out of range; another one stands in its place.
#define LXI_OMISSION_CLAMPED 9

// A value that was missing; another one was used.
#define LXI_OMISSION_DEFAULTED 10

// Something that the caller asked for and that had no effect.
#define LXI_OMISSION_NOT_HONOURED 11

// The whole object, which was there before and had to go.
#define LXI_OMISSION_REMOVED 12

// How much was left out; filled by `lxi_omissions_get`. Set `size` to `sizeof(lxi_omissions_info)` before.
typedef struct lxi_omissions_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // How many things were left out in all; 0 if nothing was.
    uint64_t total;
    // How many of them `lxi_omissions_at` tells of: the first 1,000.
    size_t listed;
    // How many kinds of them `lxi_omissions_kind_at` counts.
    size_t kinds;
} lxi_omissions_info;

// One thing that was left out; filled by `lxi_omissions_at`. Set `size` to `sizeof(lxi_omission)` before.
typedef struct lxi_omission {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The object: for a member of an image its path below the root file system (LXI_OMISSION_STRAY: below the
    // archive's top), for an image its fingerprint or name, for an entry of a list its name there. Any bytes, not
    // escaped; empty for the call itself.
    struct lxi_bytes path;
    // What was left out of it.
    lxi_omission_kind kind;
    // The same and why in words, without the path. Safe to print on a terminal.
    struct lxi_str text;
} lxi_omission;

// Makes an empty record.
//
// Owner: the caller, who frees it with `lxi_omissions_free` after the calls that it was given to. Threads: any.
// Errors: LXI_INVALID_INPUT.
lxi_status lxi_omissions_new(struct lxi_omissions **omissions, struct lxi_error **error);

// Looks at what was recorded so far, and fills `info` with how much it is. `lxi_omissions_at` and
// `lxi_omissions_kind_at` tell of what was there at this call; what they gave before is no longer valid.
//
// Threads: one at a time, while no call that is given the record begins; calls that go on already do not matter.
// Errors: LXI_INVALID_INPUT.
lxi_status lxi_omissions_get(struct lxi_omissions *omissions,
                             struct lxi_omissions_info *info,
                             struct lxi_error **error);

// Fills `omission` with one thing that was left out, with an index from 0, in the order in which they were met. None
// is there before `lxi_omissions_get`.
//
// Owner: path and text belong to `omissions`. Threads: any, while nobody calls `lxi_omissions_get`. Errors:
// LXI_NOT_FOUND for an index past the end.
lxi_status lxi_omissions_at(const struct lxi_omissions *omissions,
                            size_t index,
                            struct lxi_omission *omission,
                            struct lxi_error **error);

// A kind of omissions, with an index from 0, sorted by text: the text of `lxi_omission`, and how many there were of
// it in all. None is there before `lxi_omissions_get`.
//
// Owner: the text belongs to `omissions`. Threads: any, while nobody calls `lxi_omissions_get`. Errors: LXI_NOT_FOUND
// for an index past the end.
lxi_status lxi_omissions_kind_at(const struct lxi_omissions *omissions,
                                 size_t index,
                                 struct lxi_str *text,
                                 uint64_t *count,
                                 struct lxi_error **error);

// Frees a record; NULL is allowed.
//
// Threads: any, the record being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_omissions_free(struct lxi_omissions *omissions);

// A switch that stops the long calls it was given to. It is made to be shared: one thread waits in a call, another
// one sets it.
typedef struct lxi_cancel lxi_cancel;

// The phase of a long call: LXI_PHASE_….
typedef uint32_t lxi_phase;

// A value that this version of the list does not know.
#define LXI_PHASE_OTHER 0

// Reading and hashing.
#define LXI_PHASE_HASH 1

// Reading, decoding and checking.
#define LXI_PHASE_VERIFY 2

// Reading, decoding and writing a tree.
#define LXI_PHASE_UNPACK 3

// Reading a tree and writing an archive.
#define LXI_PHASE_PACK 4

// Reading one archive and writing another.
#define LXI_PHASE_CONVERT 5

// Sending to a server or to object storage.
#define LXI_PHASE_UPLOAD 6

// Making or applying a delta.
#define LXI_PHASE_DELTA 7

// One report of a long call. Lives as long as the callback runs.
typedef struct lxi_progress {
    // The size of this structure in bytes, set by the library.
    size_t size;
    // The phase of the call.
    lxi_phase phase;
    // Whether `total` is known.
    bool has_total;
    // Bytes of the input consumed so far.
    uint64_t done;
    // Bytes of the input in all, if `has_total`.
    uint64_t total;
} lxi_progress;

// Takes reports: at least once for each MiB of input, from any thread, also from several at the same time. 0 goes on;
// any other value stops the call, which then fails with LXI_CANCELLED. Must not unwind or jump out.
typedef int32_t (*lxi_progress_fn)(void *user, const struct lxi_progress *progress);

// Who watches a long call. Set `size` to `sizeof(lxi_monitor)`; the rest may be zero. The switch, the
// record and what `user` points to must live until the call returns; afterwards none of them is used.
typedef struct lxi_monitor {
    // The size of this structure in bytes.
    size_t size;
    // The switch that stops the call, or NULL.
    const struct lxi_cancel *cancel;
    // Takes reports, or NULL.
    lxi_progress_fn progress;
    // Handed to `progress`.
    void *user;
    // Records what the call leaves out, or NULL.
    const struct lxi_omissions *omissions;
} lxi_monitor;

// Makes a switch that is not set.
//
// Owner: the caller, who frees it with `lxi_cancel_free` after the calls that it was given to. Threads: any. Errors:
// LXI_INVALID_INPUT.
lxi_status lxi_cancel_new(struct lxi_cancel **cancel, struct lxi_error **error);

// Stops the calls, soon: each undoes what it began and fails with LXI_CANCELLED. A call that the switch is given to
// later stops at once; a switch cannot be reset.
//
// Threads: any, while others use the switch. Errors: LXI_INVALID_INPUT.
lxi_status lxi_cancel_set(const struct lxi_cancel *cancel, struct lxi_error **error);

// Whether the switch is set: by `lxi_cancel_set`, or by a progress callback that stopped a call.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_cancel_is_set(const struct lxi_cancel *cancel, bool *yes, struct lxi_error **error);

// Frees a switch; NULL is allowed.
//
// Threads: any, the switch being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_cancel_free(struct lxi_cancel *cancel);

/* ==== Inputs and outputs ==== */

// Gives the next bytes: writes up to `capacity` (never 0) of them to `buffer`, how many to `got`, and returns LXI_OK.
// 0 bytes are the end. Any other status ends the call with it: LXI_IO, LXI_CANCELLED, whatever fits. Called from one
// thread at a time, which need not be the caller's. Must not unwind or jump out.
typedef lxi_status (*lxi_read_fn)(void *user, uint8_t *buffer, size_t capacity, size_t *got);

// Takes the next bytes, all of them, and returns LXI_OK. Any other status ends the call with it. Called from one
// thread at a time, which need not be the caller's. Must not unwind or jump out.
typedef lxi_status (*lxi_write_fn)(void *user, const uint8_t *data, size_t len);

// Says that `user` is no longer needed. Called once, from any thread. Must not unwind or jump out.
typedef void (*lxi_release_fn)(void *user);

// Where the bytes of an `lxi_input` come from: LXI_INPUT_….
typedef uint32_t lxi_input_kind;

// From a file descriptor. It is borrowed for the call that takes the input, which duplicates it. A regular file is
// read at positions, so its offset neither matters nor moves, and it may be read many times; a pipe is read once.
#define LXI_INPUT_FD 1

// From memory, which is borrowed for the call that takes the input, and copied. It may be read many times.
#define LXI_INPUT_BYTES 2

// From a callback. It is read once, from front to back: a second reading fails with LXI_INVALID_INPUT.
#define LXI_INPUT_STREAM 3

// From the file at a path. A pipe or a device is read as a stream.
#define LXI_INPUT_PATH 4

// One file of an image. Set `size` to `sizeof(lxi_input)`, `kind`, and what belongs to that kind; the rest to zero.
typedef struct lxi_input {
    // The size of this structure in bytes.
    size_t size;
    // LXI_INPUT_….
    lxi_input_kind kind;
    // For LXI_INPUT_FD.
    int32_t fd;
    // For LXI_INPUT_BYTES.
    struct lxi_bytes bytes;
    // For LXI_INPUT_PATH.
    struct lxi_str path;
    // For LXI_INPUT_STREAM. Used until `release` is called.
    lxi_read_fn read;
    // Handed to `read` and `release`.
    void *user;
    // For LXI_INPUT_STREAM, or NULL: called once when the stream is no longer needed, which is when what was opened
    // from it is freed, or before the call returns where nothing was opened. It is called in any case, unless this
    // structure itself was refused (NULL, misaligned, wrong size, unknown kind, no `read`).
    lxi_release_fn release;
    // The name to show in errors, and that a store remembers; bytes of a path. May be empty.
    struct lxi_str name;
} lxi_input;

/* ==== Fingerprints ==== */

// Computes a fingerprint incrementally. Feed it the bytes of an image in order: of a split one, the metadata file's
// and then the rootfs file's.
typedef struct lxi_hasher lxi_hasher;

// The digits of a fingerprint, and the NUL behind them.
#define LXI_FINGERPRINT_TEXT 65

// Reads a fingerprint: 64 hex digits of either case and nothing else.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_fingerprint_parse(struct lxi_str text, struct lxi_fingerprint *fingerprint, struct lxi_error **error);

// Writes a fingerprint as 64 lower-case hex digits and a NUL to `text`, which has room for `capacity` bytes: at least
// LXI_FINGERPRINT_TEXT.
//
// Threads: any. Errors: LXI_INVALID_INPUT, also when the room is too small.
lxi_status lxi_fingerprint_format(const struct lxi_fingerprint *fingerprint,
                                  char *text,
                                  size_t capacity,
                                  struct lxi_error **error);

// Makes an empty hasher.
//
// Owner: the caller, who frees it with `lxi_hasher_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_hasher_new(struct lxi_hasher **hasher, struct lxi_error **error);

// Takes the next bytes.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT.
lxi_status lxi_hasher_update(struct lxi_hasher *hasher, struct lxi_bytes bytes, struct lxi_error **error);

// Hashes everything that `read` returns, up to its end, and stores the number of bytes in `count` (which may be NULL).
//
// `read` and `user` are used during the call only. Threads: one at a time. Errors: LXI_INVALID_INPUT, and what `read`
// returns; the hasher has seen what came before.
lxi_status lxi_hasher_update_from(struct lxi_hasher *hasher,
                                  lxi_read_fn read,
                                  void *user,
                                  uint64_t *count,
                                  struct lxi_error **error);

// The fingerprint of all that the hasher has seen so far, and in `bytes` (which may be NULL) how many bytes that were.
// More may follow.
//
// Threads: any, while nobody updates it. Errors: LXI_INVALID_INPUT.
lxi_status lxi_hasher_get(const struct lxi_hasher *hasher,
                          struct lxi_fingerprint *fingerprint,
                          uint64_t *bytes,
                          struct lxi_error **error);

// Frees a hasher; NULL is allowed.
//
// Threads: any, the hasher being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_hasher_free(struct lxi_hasher *hasher);

// The fingerprint of one file, or of two one after the other (`second` may be NULL). They need not be an image.
// `monitor` may be NULL.
//
// Threads: any. Errors: LXI_INVALID_INPUT, LXI_NOT_FOUND, LXI_CANCELLED, LXI_IO.
lxi_status lxi_fingerprint_of(const struct lxi_input *first,
                              const struct lxi_input *second,
                              const struct lxi_monitor *monitor,
                              struct lxi_fingerprint *fingerprint,
                              struct lxi_error **error);

/* ==== Metadata ==== */

// The description of an image: its `metadata.yaml` as values. Keys that this library does not know, and the order of
// keys, survive reading and writing.
typedef struct lxi_metadata lxi_metadata;

// What a metadata says; filled by `lxi_metadata_get`. Set `size` to `sizeof(lxi_metadata_info)` before.
typedef struct lxi_metadata_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The architecture as the file has it, never empty. It may be an alias (`amd64`) or an unknown name.
    struct lxi_str architecture;
    // The kernel's name for it (`x86_64`); empty if it is not known.
    struct lxi_str kernel_architecture;
    // Debian's name for it (`amd64`); empty if it is not known.
    struct lxi_str debian_architecture;
    // When the image was made, in seconds since 1970; never 0.
    int64_t creation_date;
    // When the image may be removed, in seconds since 1970; 0 for never.
    int64_t expiry_date;
    // How many properties there are.
    size_t properties;
    // How many template rules there are.
    size_t rules;
} lxi_metadata_info;

// Reads a `metadata.yaml`. `limits` may be NULL.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_MALFORMED with line, column and
// key in the message, LXI_LIMIT_EXCEEDED, LXI_INVALID_INPUT.
lxi_status lxi_metadata_parse(struct lxi_bytes yaml,
                              const struct lxi_limits *limits,
                              struct lxi_metadata **metadata,
                              struct lxi_error **error);

// Describes a new image. `creation_date` is in seconds since 1970, and not 0.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_metadata_new(struct lxi_str architecture,
                            int64_t creation_date,
                            struct lxi_metadata **metadata,
                            struct lxi_error **error);

// Makes a copy that can be changed apart.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any, while nobody changes the metadata. Errors:
// LXI_INVALID_INPUT.
lxi_status lxi_metadata_copy(const struct lxi_metadata *metadata, struct lxi_metadata **copy, struct lxi_error **error);

// Fills `info` with what the metadata says.
//
// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_INVALID_INPUT.
lxi_status lxi_metadata_get(const struct lxi_metadata *metadata,
                            struct lxi_metadata_info *info,
                            struct lxi_error **error);

// Names another architecture.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for an empty name, or one with a NUL.
lxi_status lxi_metadata_set_architecture(struct lxi_metadata *metadata,
                                         struct lxi_str architecture,
                                         struct lxi_error **error);

// Changes when the image was made, in seconds since 1970.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for 0.
lxi_status lxi_metadata_set_creation_date(struct lxi_metadata *metadata, int64_t seconds, struct lxi_error **error);

// Changes when the image may be removed, in seconds since 1970; 0 for never.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT.
lxi_status lxi_metadata_set_expiry_date(struct lxi_metadata *metadata, int64_t seconds, struct lxi_error **error);

// The property with an index from 0, in the order of the file.
//
// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
// one.
lxi_status lxi_metadata_property_at(const struct lxi_metadata *metadata,
                                    size_t index,
                                    struct lxi_str *key,
                                    struct lxi_str *value,
                                    struct lxi_error **error);

// The value of a property.
//
// Owner: the text belongs to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND.
lxi_status lxi_metadata_property(const struct lxi_metadata *metadata,
                                 struct lxi_str key,
                                 struct lxi_str *value,
                                 struct lxi_error **error);

// Sets a property in its place, or adds it at the end.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for a NUL in either text.
lxi_status lxi_metadata_set_property(struct lxi_metadata *metadata,
                                     struct lxi_str key,
                                     struct lxi_str value,
                                     struct lxi_error **error);

// Removes a property.
//
// Threads: one at a time. Errors: LXI_NOT_FOUND.
lxi_status lxi_metadata_remove_property(struct lxi_metadata *metadata, struct lxi_str key, struct lxi_error **error);

// Writes the file anew: the same values always give the same bytes. Where nothing was changed keep the original
// bytes, which the fingerprint covers.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any, while nobody changes the metadata.
// Errors: LXI_INVALID_INPUT.
lxi_status lxi_metadata_to_yaml(const struct lxi_metadata *metadata,
                                struct lxi_buffer **yaml,
                                struct lxi_error **error);

// Frees a metadata; NULL is allowed.
//
// Threads: any, the metadata being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_metadata_free(struct lxi_metadata *metadata);

// One template rule; filled by `lxi_metadata_rule_at`. Set `size` to `sizeof(lxi_rule_info)` before. Names and paths
// are as they stand in the file, and may try to climb: applying checks them.
typedef struct lxi_rule_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The path in the instance.
    struct lxi_str path;
    // The name of the template.
    struct lxi_str template_name;
    // The owner's number inside the instance, as text; empty if it is not said. Incus only, as the next two.
    struct lxi_str uid;
    // The group's.
    struct lxi_str gid;
    // The permission bits, as text.
    struct lxi_str mode;
    // How many events the rule names.
    size_t when;
    // How many properties the rule has.
    size_t properties;
    // Whether a file that exists already is left alone.
    bool create_only;
} lxi_rule_info;

// A template rule to set. Set `size` to `sizeof(lxi_rule)`; what is not wanted may be zero.
typedef struct lxi_rule {
    // The size of this structure in bytes.
    size_t size;
    // The name of the template, a file below the image's `templates/`.
    struct lxi_str template_name;
    // The events: `create`, `copy`, `rename` and `start` are the ones that exist.
    const struct lxi_str *when;
    // How many events.
    size_t when_len;
    // What the template is given as `properties`.
    const struct lxi_pair *properties;
    // How many properties.
    size_t properties_len;
    // LXI_RULE_….
    uint32_t flags;
    // The owner of a new file, with LXI_RULE_OWNER.
    uint32_t uid;
    // The group of a new file, with LXI_RULE_OWNER.
    uint32_t gid;
    // The permission bits of a new file, with LXI_RULE_MODE.
    uint32_t mode;
} lxi_rule;

// A file that exists already is left alone.
#define LXI_RULE_CREATE_ONLY 1

// `uid` and `gid` are said.
#define LXI_RULE_OWNER 2

// `mode` is said.
#define LXI_RULE_MODE 4

// Fills `info` with the template rule with an index from 0, in the order of the file.
//
// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
// one.
lxi_status lxi_metadata_rule_at(const struct lxi_metadata *metadata,
                                size_t index,
                                struct lxi_rule_info *info,
                                struct lxi_error **error);

// An event of a template rule, with those that nobody knows; both indexes from 0.
//
// Owner: the text belongs to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
// one.
lxi_status lxi_metadata_rule_when_at(const struct lxi_metadata *metadata,
                                     size_t rule,
                                     size_t index,
                                     struct lxi_str *event,
                                     struct lxi_error **error);

// A property of a template rule; both indexes from 0.
//
// Owner: the texts belong to the metadata. Threads: any, while nobody changes it. Errors: LXI_NOT_FOUND past the last
// one.
lxi_status lxi_metadata_rule_property_at(const struct lxi_metadata *metadata,
                                         size_t rule,
                                         size_t index,
                                         struct lxi_str *key,
                                         struct lxi_str *value,
                                         struct lxi_error **error);

// Sets the rule for an absolute path in its place, or adds it at the end.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for a path that is not absolute, an empty name of a template, a
// NUL in any text.
lxi_status lxi_metadata_set_rule(struct lxi_metadata *metadata,
                                 struct lxi_str path,
                                 const struct lxi_rule *rule,
                                 struct lxi_error **error);

// Removes the rule for a path, spelled as in the file.
//
// Threads: one at a time. Errors: LXI_NOT_FOUND.
lxi_status lxi_metadata_remove_rule(struct lxi_metadata *metadata, struct lxi_str path, struct lxi_error **error);

/* ==== Images as files: open, verify, unpack ==== */

// An image: one file or two that were recognised. Every call takes it as const, so that threads may share it; only of
// one that came as a stream the content passes once, to whoever reads it first.
typedef struct lxi_image lxi_image;

// What is known of an image without reading it; filled by `lxi_image_get`. Set `size` to `sizeof(lxi_image_info)`
// before.
typedef struct lxi_image_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // LXI_FORM_UNIFIED or LXI_FORM_SPLIT.
    lxi_form form;
    // Whether `bytes` is known: not of a stream.
    bool has_bytes;
    // The size of all files in bytes.
    uint64_t bytes;
    // What the unified image or the metadata file is: `tar` or `squashfs`.
    struct lxi_str container;
    // How it is compressed as a whole: `none`, `gzip`, `bzip2`, `xz`, `lzma`, `zstd`, `lz4`; empty for a `squashfs`.
    struct lxi_str codec;
    // What the rootfs file of a split image is: `tar`, `squashfs` or `qcow2`; else empty.
    struct lxi_str rootfs_container;
    // How that is compressed as a whole; else empty.
    struct lxi_str rootfs_codec;
} lxi_image_info;

// Recognises an image: one file with `second` NULL, or metadata and rootfs in either order. Looks at the first KiB of
// each; of a split image whose files are both tars, at as much of each as tells which is the metadata. `limits`, which
// may be NULL, hold for all that is done with the image.
//
// Owner: the caller, who frees it with `lxi_image_free`. Threads: any. Errors: LXI_MALFORMED and LXI_UNSUPPORTED for
// what is no image, LXI_AMBIGUOUS and LXI_INVALID_INPUT for two files that don't make one, LXI_FEATURE_DISABLED when a
// codec is compiled out, LXI_NOT_FOUND, LXI_IO.
lxi_status lxi_image_open(const struct lxi_input *first,
                          const struct lxi_input *second,
                          const struct lxi_limits *limits,
                          struct lxi_image **image,
                          struct lxi_error **error);

// Fills `info` with what is known of the image.
//
// Owner: the texts are the library's, and never freed. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_image_get(const struct lxi_image *image, struct lxi_image_info *info, struct lxi_error **error);

// The metadata, without unpacking anything: reads up to `metadata.yaml` and no further.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_MALFORMED when there is none or
// it breaks a rule, LXI_LIMIT_EXCEEDED, LXI_IO.
lxi_status lxi_image_metadata(const struct lxi_image *image, struct lxi_metadata **metadata, struct lxi_error **error);

// The bytes of `metadata.yaml`, as they stand in the archive.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: as `lxi_image_metadata`, but
// for the content.
lxi_status lxi_image_metadata_bytes(const struct lxi_image *image, struct lxi_buffer **yaml, struct lxi_error **error);

// The bytes of a template, by its name in `templates/`.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_NOT_FOUND when there is
// none of that name, LXI_LIMIT_EXCEEDED, LXI_MALFORMED, LXI_IO.
lxi_status lxi_image_template(const struct lxi_image *image,
                              struct lxi_str name,
                              struct lxi_buffer **source,
                              struct lxi_error **error);

// The fingerprint, read from the files' bytes as stored. Unpacking and verifying compute it anyway. `monitor` may be
// NULL.
//
// Threads: any. Errors: LXI_CANCELLED, LXI_IO; LXI_INVALID_INPUT for a stream that was read before.
lxi_status lxi_image_fingerprint(const struct lxi_image *image,
                                 const struct lxi_monitor *monitor,
                                 struct lxi_fingerprint *fingerprint,
                                 struct lxi_error **error);

// Frees an image; NULL is allowed. Releases its streams.
//
// Threads: any, the image being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_image_free(struct lxi_image *image);

// How an image is verified. NULL, or all but `size` zero: on all cores, without a monitor.
typedef struct lxi_verify_options {
    // The size of this structure in bytes.
    size_t size;
    // How many threads decode, at most; 0 for all cores.
    uint32_t threads;
    // LXI_VERIFY_….
    uint32_t flags;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_verify_options;

// `lxi_image_survey` shows a digest of each regular file's content: equal for two files exactly when their contents
// are. It is not the content's sha256.
#define LXI_VERIFY_CONTENTS 1

// What an entry is: LXI_ENTRY_….
typedef uint32_t lxi_entry_kind;

// A value that this version of the list does not know.
#define LXI_ENTRY_OTHER 0

// A regular file.
#define LXI_ENTRY_FILE 1

// A directory.
#define LXI_ENTRY_DIRECTORY 2

// A symbolic link.
#define LXI_ENTRY_SYMLINK 3

// A further name of an entry that came earlier.
#define LXI_ENTRY_HARD_LINK 4

// A character device.
#define LXI_ENTRY_CHAR_DEVICE 5

// A block device.
#define LXI_ENTRY_BLOCK_DEVICE 6

// A named pipe.
#define LXI_ENTRY_FIFO 7

// A Unix socket.
#define LXI_ENTRY_SOCKET 8

// An extended attribute.
typedef struct lxi_xattr {
    // Its full name, such as `security.capability`.
    struct lxi_bytes name;
    // Its value.
    struct lxi_bytes value;
} lxi_xattr;

// One member of the root file system. Lives, with all that it points to, as long as the callback runs.
typedef struct lxi_entry {
    // The size of this structure in bytes, set by the library.
    size_t size;
    // Path below the root: components joined by `/`, no slash at either end; empty for the root itself. Bytes.
    struct lxi_bytes path;
    // Where a symbolic link points, as it stands there, or the path of the entry that a hard link names.
    struct lxi_bytes target;
    // What it is.
    lxi_entry_kind kind;
    // Permission bits with setuid, setgid and sticky.
    uint32_t mode;
    // Owner.
    uint32_t uid;
    // Group.
    uint32_t gid;
    // Of a file: its logical size in bytes.
    uint64_t bytes;
    // Time of the last change of content: seconds since 1970, rounded down.
    int64_t mtime;
    // And nanoseconds after that second.
    uint32_t mtime_nanoseconds;
    // Of a device: the driver.
    uint32_t major;
    // Of a device: the device of that driver.
    uint32_t minor;
    // Whether `content` is set.
    bool has_content;
    // A digest of a file's content, with LXI_VERIFY_CONTENTS.
    struct lxi_fingerprint content;
    // Extended attributes.
    const struct lxi_xattr *xattrs;
    // How many.
    size_t xattrs_len;
} lxi_entry;

// Takes an entry. LXI_OK goes on; any other status ends the call with it. Called on the caller's thread. Must not
// unwind or jump out.
typedef lxi_status (*lxi_entry_fn)(void *user, const struct lxi_entry *entry);

// What reading a whole image showed. Read-only, so it may be shared between threads.
typedef struct lxi_verify_report lxi_verify_report;

// What reading a whole image showed; filled by `lxi_verify_report_get`. Set `size` to `sizeof(lxi_verify_info)`
// before.
typedef struct lxi_verify_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The fingerprint of the bytes as stored. Compare it with the one that is expected.
    struct lxi_fingerprint fingerprint;
    // Container or virtual machine.
    lxi_image_type image_type;
    // Whether the metadata can be read: `lxi_verify_report_metadata`. What is wrong with it is among the findings.
    bool has_metadata;
    // Whether it has a disk, and the next two say something.
    bool has_disk;
    // The size that a machine sees, in bytes.
    uint64_t disk_virtual_size;
    // Internal snapshots of the disk.
    uint32_t disk_snapshots;
    // The size of all files of the image in bytes.
    uint64_t bytes;
    // Regular files in the root file system.
    uint64_t files;
    // Directories that are members.
    uint64_t directories;
    // Symbolic links.
    uint64_t symlinks;
    // Further names of files.
    uint64_t hard_links;
    // Character and block devices.
    uint64_t devices;
    // Named pipes and sockets.
    uint64_t others;
    // Logical bytes of all regular files.
    uint64_t content_bytes;
    // How many names there are in `templates/`: `lxi_verify_report_template_at`.
    size_t templates;
    // How many members stand at the archive's top that no image has: `lxi_verify_report_stray_at`.
    size_t strays;
    // How many rules the image breaks: `lxi_verify_report_finding_at`. A sound image has none.
    size_t findings;
} lxi_verify_info;

// Reads and decodes all of the image and checks every member. Rules that single members break are findings of the
// result; damage to the archive itself is an error. `options` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_verify_report_free`. Threads: any. Errors: LXI_MALFORMED,
// LXI_LIMIT_EXCEEDED, LXI_UNSUPPORTED where reading can't go on, LXI_CANCELLED, LXI_IO.
lxi_status lxi_image_verify(const struct lxi_image *image,
                            const struct lxi_verify_options *options,
                            struct lxi_verify_report **verification,
                            struct lxi_error **error);

// As `lxi_image_verify`, and shows every member of the root file system on the way to `show`, which gets `user`.
// Members that break a rule are findings and not shown; the disk of a virtual machine is not one. `verification` may
// be NULL.
//
// Owner: the caller, who frees the result with `lxi_verify_report_free`. Threads: any. Errors: as `lxi_image_verify`,
// and what `show` returns.
lxi_status lxi_image_survey(const struct lxi_image *image,
                            const struct lxi_verify_options *options,
                            lxi_entry_fn show,
                            void *user,
                            struct lxi_verify_report **verification,
                            struct lxi_error **error);

// Fills `info` with what reading the image showed.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_verify_report_get(const struct lxi_verify_report *verification,
                                 struct lxi_verify_info *info,
                                 struct lxi_error **error);

// A copy of the image's metadata.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_NOT_FOUND when it can't be read.
lxi_status lxi_verify_report_metadata(const struct lxi_verify_report *verification,
                                      struct lxi_metadata **metadata,
                                      struct lxi_error **error);

// A name in `templates/`, sorted, with an index from 0.
//
// Owner: the bytes belong to the verification. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_verify_report_template_at(const struct lxi_verify_report *verification,
                                         size_t index,
                                         struct lxi_bytes *name,
                                         struct lxi_error **error);

// A member at the archive's top that no image has, with an index from 0.
//
// Owner: the bytes belong to the verification. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_verify_report_stray_at(const struct lxi_verify_report *verification,
                                      size_t index,
                                      struct lxi_bytes *path,
                                      struct lxi_error **error);

// Fills `finding` with a rule that the image breaks, with an index from 0, in the order of the archive.
//
// Owner: the texts belong to the verification. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_verify_report_finding_at(const struct lxi_verify_report *verification,
                                        size_t index,
                                        struct lxi_error_info *finding,
                                        struct lxi_error **error);

// Frees a verification; NULL is allowed.
//
// Threads: any, the verification being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_verify_report_free(struct lxi_verify_report *verification);

// How an image is unpacked. NULL, or all but `size` zero: everything as the image says, on all cores.
typedef struct lxi_unpack_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_UNPACK_….
    uint32_t flags;
    // How many threads decode and write, at most; 0 for all cores.
    uint32_t threads;
    // How owners and groups are shifted; none: not at all.
    const struct lxi_id_range *id_map;
    // How many ranges.
    size_t id_map_len;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
    // What the disk of a virtual machine is written as: `raw`, which is sparse, or `qcow2`; empty or `keep`: as it is.
    // Refused for a container but with LXI_UNPACK_DISK_IF_ANY.
    struct lxi_str disk_format;
} lxi_unpack_options;

// Writes the root file system itself to the destination, without metadata and templates.
#define LXI_UNPACK_ROOTFS_ONLY 1

// Makes no device nodes, even where they could be made.
#define LXI_UNPACK_SKIP_DEVICES 2

// Sets `trusted.*` and every `security.*` attribute too, not only file capabilities.
#define LXI_UNPACK_ALL_XATTRS 4

// Waits until everything is on the disk before it becomes visible.
#define LXI_UNPACK_DURABLE 8

// `disk_format` is for images of virtual machines, and another one is unpacked all the same.
#define LXI_UNPACK_DISK_IF_ANY 16

// The result of unpacking. Read-only, so it may be shared between threads; what is on the disk does not depend on it.
typedef struct lxi_unpacked lxi_unpacked;

// The result of unpacking; filled by `lxi_unpacked_get` and `lxi_staged_get`. Set `size` to
// `sizeof(lxi_unpacked_info)` before.
typedef struct lxi_unpacked_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // Where it is; empty while it is staged.
    struct lxi_str path;
    // The fingerprint of the bytes that were unpacked.
    struct lxi_fingerprint fingerprint;
    // Container or virtual machine.
    lxi_image_type image_type;
    // Whether everything in the image was written as it stands there.
    bool complete;
    // Entries written.
    uint64_t entries;
    // Bytes of file content written.
    uint64_t bytes;
    // How many omissions `lxi_unpacked_omission_at` tells of: the first 1,000.
    size_t omissions;
    // How many kinds of omissions `lxi_unpacked_omission_kind_at` counts.
    size_t omission_kinds;
} lxi_unpacked_info;

// Unpacks to `destination` in one pass, hashed, decoded, checked and written at the same time: nothing is visible
// there unless the fingerprint is `expected_fingerprint` and every rule holds. The destination must not exist, or be
// an empty directory. `options` and `unpacked` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_unpacked_free`. Threads: any. Errors: LXI_MISMATCH with both
// values; LXI_ALREADY_EXISTS or LXI_UNSAFE_PATH for the destination; for the image LXI_MALFORMED, LXI_UNSAFE_PATH,
// LXI_UNSUPPORTED, LXI_LIMIT_EXCEEDED; LXI_CANCELLED; LXI_IO. Whatever the error, nothing is left.
lxi_status lxi_image_unpack_verified(const struct lxi_image *image,
                                     struct lxi_str destination,
                                     const struct lxi_fingerprint *expected_fingerprint,
                                     const struct lxi_unpack_options *options,
                                     struct lxi_unpacked **unpacked,
                                     struct lxi_error **error);

// Unpacks to `destination` without comparing the fingerprint, for images from a trusted origin. `options` and
// `unpacked` may be NULL.
//
// Owner, threads and errors: as `lxi_image_unpack_verified`, but for LXI_MISMATCH.
lxi_status lxi_image_unpack_unverified(const struct lxi_image *image,
                                       struct lxi_str destination,
                                       const struct lxi_unpack_options *options,
                                       struct lxi_unpacked **unpacked,
                                       struct lxi_error **error);

// Fills `info` with the result of unpacking.
//
// Owner: the texts belong to `unpacked`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_unpacked_get(const struct lxi_unpacked *unpacked,
                            struct lxi_unpacked_info *info,
                            struct lxi_error **error);

// A copy of the image's metadata.
//
// Owner: the caller, who frees it with `lxi_metadata_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_unpacked_metadata(const struct lxi_unpacked *unpacked,
                                 struct lxi_metadata **metadata,
                                 struct lxi_error **error);

// Something that was left out, with an index from 0: bytes of the entry's path, and what was left out of it in words.
//
// Owner: both belong to `unpacked`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_unpacked_omission_at(const struct lxi_unpacked *unpacked,
                                    size_t index,
                                    struct lxi_bytes *path,
                                    struct lxi_str *what,
                                    struct lxi_error **error);

// A kind of omissions, with an index from 0: in words, and how many there were in all.
//
// Owner: the text belongs to `unpacked`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_unpacked_omission_kind_at(const struct lxi_unpacked *unpacked,
                                         size_t index,
                                         struct lxi_str *what,
                                         uint64_t *count,
                                         struct lxi_error **error);

// Frees the result of unpacking; NULL is allowed. The unpacked files stay.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_unpacked_free(struct lxi_unpacked *unpacked);

// An unpacked image in a private directory beside its destination. Freeing it before it is committed removes
// everything.
typedef struct lxi_staged lxi_staged;

// Unpacks into a private directory beside `destination`, computing the fingerprint in the same pass. The destination
// must not exist, or be an empty directory; it stays as it is until `lxi_staged_commit`, before which the image must
// be verified or accepted. `options` may be NULL.
//
// Owner: the caller, who frees it with `lxi_staged_free`. Threads: any. Errors: as `lxi_image_unpack_verified`, but
// for LXI_MISMATCH. Whatever the error, nothing is left.
lxi_status lxi_image_stage(const struct lxi_image *image,
                           struct lxi_str destination,
                           const struct lxi_unpack_options *options,
                           struct lxi_staged **staged,
                           struct lxi_error **error);

// Fills `info` with what was unpacked.
//
// Threads: any, while nobody changes it. Errors: LXI_INVALID_INPUT when the staged image is gone.
lxi_status lxi_staged_get(const struct lxi_staged *staged, struct lxi_unpacked_info *info, struct lxi_error **error);

// Compares the fingerprint. On a mismatch everything is removed, and the handle can only be freed.
//
// Threads: one at a time. Errors: LXI_MISMATCH with both values; LXI_INVALID_INPUT when it was verified or accepted
// before, or it is gone.
lxi_status lxi_staged_verify(struct lxi_staged *staged,
                             const struct lxi_fingerprint *expected_fingerprint,
                             struct lxi_error **error);

// Takes the image as it is: its origin is trusted, or nobody knows its fingerprint.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT when it was verified or accepted before, or it is
// no more.
lxi_status lxi_staged_accept_unverified(struct lxi_staged *staged, struct lxi_error **error);

// Gives the directory its name beside where it was staged, in one step: a plain name, that of the destination or
// another one. `unpacked` may be NULL. After an error it is staged as before, and can be committed under another name.
//
// Owner: the caller, who frees the result with `lxi_unpacked_free`, and `staged` all the same. Threads: one at a time.
// Errors: LXI_ALREADY_EXISTS when something other than an empty directory has that name; LXI_INVALID_INPUT for a name
// with a slash, and when it was not verified or accepted; LXI_IO.
lxi_status lxi_staged_commit(struct lxi_staged *staged,
                             struct lxi_str name,
                             struct lxi_unpacked **unpacked,
                             struct lxi_error **error);

// Removes everything, and says so if that fails. The handle can only be freed afterwards.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT when the staged image is gone, LXI_IO.
lxi_status lxi_staged_discard(struct lxi_staged *staged, struct lxi_error **error);

// Frees a staged image, and removes it from the disk unless it was committed; NULL is allowed.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_staged_free(struct lxi_staged *staged);

/* ==== Pack, convert, compare ==== */

// What the rootfs of a split container image is written as: LXI_ROOTFS_….
typedef uint32_t lxi_rootfs_format;

// Whichever is usual: tar when packing, the source's own when converting.
#define LXI_ROOTFS_DEFAULT 0

// A tar archive, compressed as a whole.
#define LXI_ROOTFS_TAR 1

// A SquashFS.
#define LXI_ROOTFS_SQUASHFS 2

// What is packed and how. Set `size` to `sizeof(lxi_pack_options)`, a root file system (`tree` or `disk`) and the
// metadata (`metadata` or `metadata_yaml`); the rest may be zero.
typedef struct lxi_pack_options {
    // The size of this structure in bytes.
    size_t size;
    // The directory whose content becomes the root file system; or empty.
    struct lxi_str tree;
    // The disk of a virtual machine; or NULL. It becomes qcow2, unless it is.
    const struct lxi_input *disk;
    // The metadata; or NULL.
    const struct lxi_metadata *metadata;
    // The bytes of a `metadata.yaml`, which go into the image as they are; or empty.
    struct lxi_bytes metadata_yaml;
    // The directory whose files become `templates/`; or empty.
    struct lxi_str templates;
    // A codec with or without a level, such as `zstd:19`, `xz` or `none`; empty for zstd.
    struct lxi_str compression;
    // One file, which is usual, or two.
    lxi_form form;
    // What the rootfs of a split image is.
    lxi_rootfs_format rootfs_format;
    // LXI_PACK_….
    uint32_t flags;
    // How many threads compress, at most; 0 for all cores. The bytes don't depend on it.
    uint32_t threads;
    // With LXI_PACK_NEWEST_MTIME: seconds since 1970; modification times after this one become it.
    int64_t newest_mtime;
    // The limits that metadata, templates and disks are held to, or NULL.
    const struct lxi_limits *limits;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
    // The format of the disk: `raw`, `qcow2`, `vmdk`, `ova`, `vhd` or `vhdx`; empty to recognise it, and raw never is.
    struct lxi_str disk_input;
    // How the clusters of the disk are compressed: `zlib`, `zstd` or `none`, optionally `:LEVEL`. Empty: a qcow2 disk
    // stays as it is, and another one gets zlib.
    struct lxi_str disk_compression;
} lxi_pack_options;

// Takes `trusted.*` and every `security.*` attribute too, not only file capabilities.
#define LXI_PACK_ALL_XATTRS 1

// `newest_mtime` is set.
#define LXI_PACK_NEWEST_MTIME 2

// How an image is converted. NULL, or all but `size` zero: to what it is.
typedef struct lxi_convert_options {
    // The size of this structure in bytes.
    size_t size;
    // One file, or two; 0: as it is.
    lxi_form form;
    // What the rootfs of a split container image becomes; 0: as it is.
    lxi_rootfs_format rootfs_format;
    // A codec with or without a level, such as `zstd:19`; empty: as it is.
    struct lxi_str compression;
    // The fingerprint that the source must have, or NULL.
    const struct lxi_fingerprint *expected_fingerprint;
    // How many threads work, at most; 0 for all cores. The bytes don't depend on it.
    uint32_t threads;
    // Must be 0.
    uint32_t flags;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
    // `qcow2`: the disk of a virtual machine is written anew, through temporary files; empty or `keep`: it stays as it
    // is.
    struct lxi_str disk_format;
    // How the clusters of a disk that is written anew are compressed: `zlib`, `zstd` or `none`, optionally `:LEVEL`;
    // empty for zlib.
    struct lxi_str disk_compression;
} lxi_convert_options;

// An image that was written. Read-only, so it may be shared between threads.
typedef struct lxi_written lxi_written;

// An image that was written; filled by `lxi_written_get`. Set `size` to `sizeof(lxi_written_info)` before.
typedef struct lxi_written_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The fingerprint of the new image.
    struct lxi_fingerprint fingerprint;
    // The size of all its files in bytes.
    uint64_t bytes;
    // How many files there are: `lxi_written_file_at`. None when it went to a callback.
    size_t files;
    // How many members were left out: `lxi_written_omission_at`.
    size_t omissions;
} lxi_written_info;

// Packs to the file `out`; a split image's rootfs goes to `out` with `.root` behind it. The same tree gives the same
// bytes. `written` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_written_free`. Threads: any. Errors: LXI_ALREADY_EXISTS when a
// file of that name is there, LXI_UNSUPPORTED for a disk that is no image's, LXI_MALFORMED for the metadata,
// LXI_NOT_FOUND, LXI_IO, LXI_CANCELLED. Whatever the error, nothing is left.
lxi_status lxi_pack(const struct lxi_pack_options *options,
                    struct lxi_str out,
                    struct lxi_written **written,
                    struct lxi_error **error);

// Packs the metadata file of a split image alone, with the templates, to the file `out`: for a rootfs that is there
// already. `options` name no tree and no disk. The fingerprint is that of this file, not of an image. `written` may be
// NULL.
//
// Owner, threads and errors: as `lxi_pack`; LXI_INVALID_INPUT for options about a rootfs.
lxi_status lxi_pack_metadata(const struct lxi_pack_options *options,
                             struct lxi_str out,
                             struct lxi_written **written,
                             struct lxi_error **error);

// Packs a unified image into `write`, which gets `user`; both are used during the call only. `written` may be NULL.
//
// Owner, threads and errors: as `lxi_pack`; what `write` returns; LXI_INVALID_INPUT when the options ask for a split
// image.
lxi_status lxi_pack_to(const struct lxi_pack_options *options,
                       lxi_write_fn write,
                       void *user,
                       struct lxi_written **written,
                       struct lxi_error **error);

// Writes the image to `out` in another form or codec, in one stream; a split image's rootfs goes to `out` with `.root`
// behind it. `options` and `written` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_written_free`. Threads: any. Errors: LXI_ALREADY_EXISTS for the
// output; those of `lxi_image_verify` for the source, and the first rule that it breaks; LXI_MISMATCH. Whatever the
// error, nothing is left.
lxi_status lxi_image_convert(const struct lxi_image *image,
                             const struct lxi_convert_options *options,
                             struct lxi_str out,
                             struct lxi_written **written,
                             struct lxi_error **error);

// Writes the image to `write`, which gets `user`, as a unified one; both are used during the call only. `options` and
// `written` may be NULL.
//
// Owner, threads and errors: as `lxi_image_convert`; what `write` returns; LXI_INVALID_INPUT when the options ask for
// a split image.
lxi_status lxi_image_convert_to(const struct lxi_image *image,
                                const struct lxi_convert_options *options,
                                lxi_write_fn write,
                                void *user,
                                struct lxi_written **written,
                                struct lxi_error **error);

// Fills `info` with what was written.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_written_get(const struct lxi_written *written, struct lxi_written_info *info, struct lxi_error **error);

// A file of the new image, with an index from 0, in the order in which they make the fingerprint.
//
// Owner: the path belongs to `written`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_written_file_at(const struct lxi_written *written,
                               size_t index,
                               struct lxi_str *path,
                               struct lxi_error **error);

// A member that no image can hold, or that was left out, with an index from 0: bytes of its path, and why in words.
//
// Owner: both belong to `written`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_written_omission_at(const struct lxi_written *written,
                                   size_t index,
                                   struct lxi_bytes *path,
                                   struct lxi_str *reason,
                                   struct lxi_error **error);

// Frees what tells of a written image; NULL is allowed. The image stays.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_written_free(struct lxi_written *written);

// How a member differs: LXI_DIFFERENCE_….
typedef uint32_t lxi_difference_kind;

// Only the first image has it.
#define LXI_DIFFERENCE_ONLY_IN_FIRST 1

// Only the second image has it.
#define LXI_DIFFERENCE_ONLY_IN_SECOND 2

// Both have it, with other attributes or content.
#define LXI_DIFFERENCE_CHANGED 3

// What differs between two images. Read-only, so it may be shared between threads.
typedef struct lxi_differences lxi_differences;

// One difference; filled by `lxi_differences_at`. Set `size` to `sizeof(lxi_difference_info)` before.
typedef struct lxi_difference_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The member: `metadata.yaml`, or a path that begins with `templates/` or `rootfs`. Bytes.
    struct lxi_bytes path;
    // How it differs.
    lxi_difference_kind kind;
    // How many attributes of it differ: `lxi_differences_attribute_at`.
    size_t attributes;
} lxi_difference_info;

// Compares what two images hold. Their form and codecs don't count. `options` may be NULL; `count` gets how many
// differences there are.
//
// Owner: the caller, who frees the result with `lxi_differences_free`. Threads: any. Errors: those of
// `lxi_image_verify`, and LXI_MALFORMED or LXI_UNSAFE_PATH when one of them breaks a rule.
lxi_status lxi_image_differences(const struct lxi_image *first,
                                 const struct lxi_image *second,
                                 const struct lxi_verify_options *options,
                                 struct lxi_differences **found,
                                 size_t *count,
                                 struct lxi_error **error);

// Fills `info` with a difference, with an index from 0, sorted by path.
//
// Owner: the path belongs to `found`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_differences_at(const struct lxi_differences *found,
                              size_t index,
                              struct lxi_difference_info *info,
                              struct lxi_error **error);

// An attribute that differs: its name (`mode`, `owner`, `mtime`, `content` …) and both values; both indexes from 0.
//
// Owner: the texts belong to `found`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_differences_attribute_at(const struct lxi_differences *found,
                                        size_t difference,
                                        size_t index,
                                        struct lxi_str *name,
                                        struct lxi_str *first,
                                        struct lxi_str *second,
                                        struct lxi_error **error);

// Frees differences; NULL is allowed.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_differences_free(struct lxi_differences *found);

/* ==== Disks of virtual machines ==== */

// A disk image: qcow2, VMDK, OVA, VHD, VHDX or raw. Read-only, so it may be shared between threads.
//
// A disk that needs another file (a backing file, external data, a parent, further parts) is refused with
// LXI_UNSUPPORTED, whose message names the file: nothing but the one file is ever opened.
typedef struct lxi_disk lxi_disk;

// How a disk is opened. NULL, or all but `size` zero: its format is recognised, and raw never is.
typedef struct lxi_disk_options {
    // The size of this structure in bytes.
    size_t size;
    // The format that it must have: `raw`, `qcow2`, `vmdk`, `ova`, `vhd` or `vhdx`; empty to recognise it.
    struct lxi_str format;
    // Where a disk in a compressed file is decoded to; empty for the directory of temporary files.
    struct lxi_str directory;
    // How many threads decode a compressed file, at most; 0 for all cores.
    uint32_t threads;
    // Must be 0.
    uint32_t flags;
    // The limits that tables and sizes are held to, or NULL.
    const struct lxi_limits *limits;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_disk_options;

// A disk; filled by `lxi_disk_get`. Set `size` to `sizeof(lxi_disk_info)` before.
typedef struct lxi_disk_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The format of the file: `raw`, `qcow2`, `vmdk`, `ova`, `vhd` or `vhdx`.
    struct lxi_str format;
    // The format of the disk in an OVA; otherwise that of the file.
    struct lxi_str disk_format;
    // The kind within the format, for people: `version 3, zstd`, `streamOptimized`. Empty for a raw disk.
    struct lxi_str variant;
    // The size that the virtual machine sees, in bytes.
    uint64_t virtual_size;
    // Bytes that one entry of the format's tables stands for; 0 for a raw disk and a fixed VHD.
    uint64_t cluster_size;
} lxi_disk_info;

// How a disk is written. NULL, or all but `size` zero: as qcow2 to a new file, its clusters compressed with zlib.
typedef struct lxi_disk_write_options {
    // The size of this structure in bytes.
    size_t size;
    // `qcow2` or `raw`; empty for qcow2.
    struct lxi_str format;
    // How the clusters of a qcow2 disk are compressed: `zlib`, `zstd` or `none`, optionally `:LEVEL`; empty for zlib.
    // Refused for a raw disk.
    struct lxi_str compression;
    // Bytes of a cluster of a qcow2 disk, a power of two from 512 to 2 MiB; 0 for 64 KiB. Refused for a raw disk.
    uint64_t cluster_size;
    // How many threads work, at most; 0 for all cores. The bytes don't depend on it.
    uint32_t threads;
    // LXI_DISK_….
    uint32_t flags;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_disk_write_options;

// The output is a block device, which a raw disk is written to; it is on the device when the call returns.
#define LXI_DISK_TO_DEVICE 1

// A disk that was written; filled by `lxi_disk_write` and `lxi_staged_move_disk`. Set `size` to
// `sizeof(lxi_disk_written)` before.
typedef struct lxi_disk_written {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The size that the virtual machine sees, in bytes.
    uint64_t virtual_size;
    // Bytes that were written: of a raw disk its data, of a qcow2 disk the whole file.
    uint64_t bytes;
} lxi_disk_written;

// Opens a disk image, also one in a compressed file, which is decoded to a temporary file. `options` may be NULL.
//
// Owner: the caller, who frees it with `lxi_disk_free`. Threads: any. Errors: LXI_UNSUPPORTED for what needs another
// file, for encryption, for unknown features, and for content without a magic number that `options` don't call raw;
// LXI_MALFORMED; LXI_INVALID_INPUT for another format than the one that is asked for, and for a stream;
// LXI_LIMIT_EXCEEDED; LXI_CANCELLED; LXI_IO.
lxi_status lxi_disk_open(const struct lxi_input *input,
                         const struct lxi_disk_options *options,
                         struct lxi_disk **disk,
                         struct lxi_error **error);

// Fills `info` with what a disk is.
//
// Owner: the texts belong to the disk. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_disk_get(const struct lxi_disk *disk, struct lxi_disk_info *info, struct lxi_error **error);

// Bytes of the disk that are not known to be zeros: what a sparse raw file of it takes at most. Reads and checks all
// tables, and no data. `monitor` may be NULL.
//
// Threads: any. Errors: LXI_MALFORMED for tables that overlap; LXI_LIMIT_EXCEEDED (`disk_map`); LXI_CANCELLED; LXI_IO.
lxi_status lxi_disk_allocated(const struct lxi_disk *disk,
                              const struct lxi_monitor *monitor,
                              uint64_t *bytes,
                              struct lxi_error **error);

// Reads what the virtual machine sees from `offset` on: up to `capacity` bytes to `buffer`, and how many to `got`:
// fewer only at the end of the disk, and 0 past it.
//
// Threads: any, also several with one disk. Errors: LXI_MALFORMED for a part of the disk that can't be decoded;
// LXI_IO. What `buffer` holds then is not said.
lxi_status lxi_disk_read_at(const struct lxi_disk *disk,
                            uint64_t offset,
                            uint8_t *buffer,
                            size_t capacity,
                            size_t *got,
                            struct lxi_error **error);

// Writes the disk to `out`, a new file, or a block device with LXI_DISK_TO_DEVICE. A raw file is sparse. `options` and
// `written` may be NULL.
//
// Threads: any. Errors: LXI_ALREADY_EXISTS; LXI_BUSY for a device that is mounted or in use; LXI_INVALID_INPUT for
// what is no block device, one that is too small, a format that is none, and options that a raw disk has none of;
// LXI_MALFORMED; LXI_LIMIT_EXCEEDED; LXI_CANCELLED; LXI_STORAGE_FULL; LXI_IO. A new file is removed then; a device may
// hold a part of the disk.
lxi_status lxi_disk_write(const struct lxi_disk *disk,
                          struct lxi_str out,
                          const struct lxi_disk_write_options *options,
                          struct lxi_disk_written *written,
                          struct lxi_error **error);

// Moves the disk of a staged image of a virtual machine to `out`, a new raw file, or a block device with
// LXI_DISK_TO_DEVICE: the rest is committed without it. The image must be verified or accepted before, as a device
// can't be put back. Of `options`, which may be NULL, flags, threads and monitor count; the format is raw. `written`
// may be NULL.
//
// Threads: one at a time. Errors: those of `lxi_disk_write`; LXI_INVALID_INPUT for a container, and for an image that
// is not verified.
lxi_status lxi_staged_move_disk(struct lxi_staged *staged,
                                struct lxi_str out,
                                const struct lxi_disk_write_options *options,
                                struct lxi_disk_written *written,
                                struct lxi_error **error);

// Frees a disk; NULL is allowed. The file stays.
//
// Threads: any, the disk being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_disk_free(struct lxi_disk *disk);

/* ==== Templates ==== */

// The variables that a template is rendered with. Rendering takes it as const, so that threads may share it.
typedef struct lxi_template_context lxi_template_context;

// Makes a context from a JSON object with the names that LXD and Incus give to templates:
//
//     { "container": { "name": "c1", "type": "container", "architecture": "x86_64",
//                      "privileged": "false", "ephemeral": "false" },
//       "config":    { "user.fqdn": "c1.example.org" },
//       "devices":   { "eth0": { "type": "nic" } } }
//
// `container` (or `instance`) stands for both of them, `config` for `config_get` too. `trigger`, `path` and
// `properties` may be given; `lxi_apply` sets them for each rule. Names that are not given are there and empty. Any
// other name becomes a variable: numbers, truth values, texts, lists and maps are what they look like, and an object
// with the one key `$int`, `$float` (a text with the number) or `$bytes` (base64) is what JSON can't say.
//
// Owner: the caller, who frees it with `lxi_template_context_free`. Threads: any. Errors: LXI_MALFORMED for what is
// no JSON or no such object, LXI_LIMIT_EXCEEDED above 16 MiB.
lxi_status lxi_template_context_from_json(struct lxi_bytes json,
                                          struct lxi_template_context **context,
                                          struct lxi_error **error);

// Makes a context from a JSON object of variables, and nothing else in it. Values are as in
// `lxi_template_context_from_json`; only `trigger` is made as LXD makes it, `devices` is a map of devices, and
// `$config` gives `config` and `config_get`.
//
// Owner, threads and errors: as `lxi_template_context_from_json`.
lxi_status lxi_template_context_from_variables(struct lxi_bytes json,
                                               struct lxi_template_context **context,
                                               struct lxi_error **error);

// Says what time `{% now %}` shows, in UTC: seconds since 1970. Without it, it is the clock's.
//
// Threads: one at a time. Errors: LXI_INVALID_INPUT for a time that no clock of this machine can show.
lxi_status lxi_template_context_set_now(struct lxi_template_context *context,
                                        int64_t seconds,
                                        struct lxi_error **error);

// Frees a context; NULL is allowed.
//
// Threads: any, the context being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_template_context_free(struct lxi_template_context *context);

// A parsed template. Read-only, so it may be shared between threads.
typedef struct lxi_template lxi_template;

// Whose templates: LXI_DIALECT_….
typedef uint32_t lxi_dialect;

// LXD's: pongo2 4.
#define LXI_DIALECT_LXD 0

// Incus's: pongo2 6.
#define LXI_DIALECT_INCUS 1

// Parses as pongo2 itself does, with autoescape on, and not as LXD and Incus parse the templates of an image.
#define LXI_TEMPLATE_RAW 1

// Something in a template that is allowed, yet surely not meant; filled by `lxi_template_warning_at`. Set `size` to
// `sizeof(lxi_warning)` before.
typedef struct lxi_warning {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // One sentence.
    struct lxi_str message;
    // The line, from 1.
    uint32_t line;
    // The column in bytes, from 1.
    uint32_t column;
} lxi_warning;

// Parses a template. `flags` are LXI_TEMPLATE_… or 0; `limits` may be NULL.
//
// Owner: the caller, who frees it with `lxi_template_free`. Threads: any. Errors: LXI_TEMPLATE if it is not well
// formed or asks for another file, LXI_LIMIT_EXCEEDED if it nests too deep or chains too much; the error tells where.
lxi_status lxi_template_parse(struct lxi_bytes source,
                              lxi_dialect dialect,
                              uint32_t flags,
                              const struct lxi_limits *limits,
                              struct lxi_template **parsed,
                              struct lxi_error **error);

// Renders a template. `limits` may be NULL. It can't be cancelled, and need not be: `template_steps` and the other
// limits of templates bound how long it takes, whatever the template asks for.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any, also several with one template and
// one context. Errors: LXI_TEMPLATE if it asks for what can't be, LXI_LIMIT_EXCEEDED if it writes, works or nests too
// much; the error tells where.
lxi_status lxi_template_render(const struct lxi_template *parsed,
                               const struct lxi_template_context *context,
                               const struct lxi_limits *limits,
                               struct lxi_buffer **text,
                               struct lxi_error **error);

// Fills `warning` with a warning about a template, with an index from 0, in the order of the source.
//
// Owner: the text is the library's, and never freed. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_template_warning_at(const struct lxi_template *parsed,
                                   size_t index,
                                   struct lxi_warning *warning,
                                   struct lxi_error **error);

// Frees a template; NULL is allowed.
//
// Threads: any, the template being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_template_free(struct lxi_template *parsed);

// How templates are applied. NULL, or all but `size` zero: as LXD does, owners as they are, and the first failure
// stops.
typedef struct lxi_apply_options {
    // The size of this structure in bytes.
    size_t size;
    // Whose templates these are. Only Incus knows a rule's owner and mode.
    lxi_dialect dialect;
    // LXI_APPLY_….
    uint32_t flags;
    // How the owners of new files are shifted; none: not at all.
    const struct lxi_id_range *id_map;
    // How many ranges.
    size_t id_map_len;
    // For a virtual machine: the directory that gets `<template>.out` files and a copy of `metadata.yaml`, for the
    // agent inside to put in place; or empty.
    struct lxi_str output;
    // What templates may ask for, or NULL.
    const struct lxi_limits *limits;
    // Progress, cancellation and omissions of the call, or NULL. Listens for cancellation between one rule and the
    // next; there are no reports.
    const struct lxi_monitor *monitor;
} lxi_apply_options;

// The rules behind one that failed are applied all the same.
#define LXI_APPLY_KEEP_GOING 1

// Only tells what would change, and writes nothing.
#define LXI_APPLY_DRY_RUN 2

// What was done with a rule: LXI_ACTION_….
typedef uint32_t lxi_action;

// A value that this version of the list does not know.
#define LXI_ACTION_OTHER 0

// The file was not there.
#define LXI_ACTION_CREATED 1

// The file was there with another content.
#define LXI_ACTION_REPLACED 2

// The file was there with this very content.
#define LXI_ACTION_UNCHANGED 3

// The rule did not apply.
#define LXI_ACTION_SKIPPED 4

// The rule failed, and its file is as it was.
#define LXI_ACTION_FAILED 5

// What became of all rules. Read-only, so it may be shared between threads.
typedef struct lxi_applied lxi_applied;

// What became of one rule; filled by `lxi_applied_at`. Set `size` to `sizeof(lxi_outcome)` before.
typedef struct lxi_outcome {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The rule's path, as the metadata has it.
    struct lxi_str path;
    // The rule's template.
    struct lxi_str template_name;
    // Why, in words.
    struct lxi_str reason;
    // What was done, or would be by a dry run.
    lxi_action action;
    // For LXI_ACTION_FAILED: the status of the failure; else LXI_OK.
    lxi_status status;
    // The file's owner afterwards: with the host's numbers, as the next two, unless the rule was skipped or failed.
    uint32_t uid;
    // Its group.
    uint32_t gid;
    // Its permissions.
    uint32_t mode;
    // Whether `old_content` and `new_content` say something: after a dry run.
    bool has_change;
    // Whether there was a file.
    bool has_old;
    // Its size in bytes.
    uint64_t bytes;
    // What the file holds now.
    struct lxi_bytes old_content;
    // What the template gives.
    struct lxi_bytes new_content;
} lxi_outcome;

// Applies the template rules that fire at `trigger` (`create`, `copy`, `rename` or `start`) to the directory that
// unpacking made, with `rootfs/` and `templates/`. Each path is resolved below the root as a process in the instance
// would resolve it, never out of it; a file is replaced in one step, or stays as it was. With `metadata` NULL the
// rules come from the directory's `metadata.yaml`. `options` and `applied` may be NULL.
//
// When a rule fails `applied` is set all the same, and tells what became of the rules.
//
// Owner: the caller, who frees `applied` with `lxi_applied_free`, also after an error. Threads: any; one instance at a
// time. Errors: the first failure: LXI_UNSAFE_PATH for a template's name that is not plain and a target that leads out
// or is no regular file, LXI_NOT_FOUND for a missing template, LXI_TEMPLATE and LXI_LIMIT_EXCEEDED from rendering,
// LXI_INVALID_INPUT for numbers in a rule that are none, LXI_MALFORMED, LXI_IO, LXI_CANCELLED.
lxi_status lxi_apply(struct lxi_str directory,
                     const struct lxi_metadata *metadata,
                     struct lxi_str trigger,
                     const struct lxi_template_context *context,
                     const struct lxi_apply_options *options,
                     struct lxi_applied **applied,
                     struct lxi_error **error);

// As `lxi_apply`, with the descriptors of an instance's root and of its image's `templates/`, which are borrowed for
// the call. `metadata` must be given.
//
// Owner, threads and errors: as `lxi_apply`.
lxi_status lxi_apply_at(int32_t rootfs_fd,
                        int32_t templates_fd,
                        const struct lxi_metadata *metadata,
                        struct lxi_str trigger,
                        const struct lxi_template_context *context,
                        const struct lxi_apply_options *options,
                        struct lxi_applied **applied,
                        struct lxi_error **error);

// How many rules were looked at.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_applied_len(const struct lxi_applied *applied, size_t *len, struct lxi_error **error);

// Fills `outcome` with what became of a rule, with an index from 0, in the rules' order.
//
// Owner: the texts and bytes belong to `applied`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_applied_at(const struct lxi_applied *applied,
                          size_t index,
                          struct lxi_outcome *outcome,
                          struct lxi_error **error);

// Frees outcomes; NULL is allowed.
//
// Threads: any, the outcomes being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_applied_free(struct lxi_applied *applied);

/* ==== Keys, statements, policies ==== */

// An Ed25519 secret key. Nothing of it is ever part of an error. Read-only, so it may be shared between threads.
typedef struct lxi_secret_key lxi_secret_key;

// An Ed25519 public key. Read-only, so it may be shared between threads.
typedef struct lxi_public_key lxi_public_key;

// Makes a new key, as `minisign -G` does.
//
// Owner: the caller, who frees it with `lxi_secret_key_free`. Threads: any. Errors: LXI_IO if the system has no
// randomness.
lxi_status lxi_secret_key_generate(struct lxi_secret_key **key, struct lxi_error **error);

// Parses a key: the text of a secret key file of `minisign`, or PEM of PKCS#8. `passphrase` may be empty; it is used
// only for a key that is encrypted, which takes seconds and the memory that the file says, 1 GiB for keys of
// `minisign`.
//
// Owner: the caller, who frees it with `lxi_secret_key_free`. Threads: any. Errors: LXI_INVALID_INPUT for an encrypted
// key without a passphrase; LXI_UNTRUSTED for a wrong passphrase or a damaged key; LXI_MALFORMED; LXI_UNSUPPORTED;
// LXI_LIMIT_EXCEEDED.
lxi_status lxi_secret_key_parse(struct lxi_bytes content,
                                struct lxi_bytes passphrase,
                                struct lxi_secret_key **key,
                                struct lxi_error **error);

// Reads a key from the file at `path`, as `lxi_secret_key_parse` does.
//
// Owner, threads and errors: as `lxi_secret_key_parse`; LXI_IO.
lxi_status lxi_secret_key_read(struct lxi_str path,
                               struct lxi_bytes passphrase,
                               struct lxi_secret_key **key,
                               struct lxi_error **error);

// The key as the text of a secret key file of `minisign`, encrypted unless `passphrase` is empty. The buffer is as
// secret as the key; freeing it does not overwrite it.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_UNSUPPORTED for a key that
// was read from PEM; LXI_IO if the system has no randomness.
lxi_status lxi_secret_key_to_text(const struct lxi_secret_key *key,
                                  struct lxi_bytes passphrase,
                                  struct lxi_buffer **text,
                                  struct lxi_error **error);

// The public key that verifies what this key signs.
//
// Owner: the caller, who frees it with `lxi_public_key_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_secret_key_public(const struct lxi_secret_key *key,
                                 struct lxi_public_key **public_key,
                                 struct lxi_error **error);

// Frees a secret key; NULL is allowed.
//
// Threads: any, the key being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_secret_key_free(struct lxi_secret_key *key);

// Parses a key: the file that `minisign -G` writes, its second line alone, or PEM (`-----BEGIN PUBLIC KEY-----`).
//
// Owner: the caller, who frees it with `lxi_public_key_free`. Threads: any. Errors: LXI_MALFORMED; LXI_UNSUPPORTED for
// a key of another algorithm.
lxi_status lxi_public_key_parse(struct lxi_bytes content, struct lxi_public_key **key, struct lxi_error **error);

// Reads a key from the file at `path`, as `lxi_public_key_parse` does.
//
// Owner, threads and errors: as `lxi_public_key_parse`; LXI_IO; LXI_LIMIT_EXCEEDED.
lxi_status lxi_public_key_read(struct lxi_str path, struct lxi_public_key **key, struct lxi_error **error);

// The key as text: the two lines of `minisign`, or PEM for a key without a number.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_public_key_to_text(const struct lxi_public_key *key, struct lxi_buffer **text, struct lxi_error **error);

// The name of the key, as `minisign` prints it, or 64 digits for another key. It identifies a key and proves nothing.
//
// Owner: the text belongs to the key. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_public_key_id(const struct lxi_public_key *key, struct lxi_str *id, struct lxi_error **error);

// Frees a public key; NULL is allowed.
//
// Threads: any, the key being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_public_key_free(struct lxi_public_key *key);

// Signed statements about images: in-toto statements in DSSE envelopes. Read-only, so it may be shared between
// threads.
typedef struct lxi_statements lxi_statements;

// What is stated about an image. NULL, or all but `size` zero: that the signer vouches for it.
typedef struct lxi_statement_options {
    // The size of this structure in bytes.
    size_t size;
    // The type of the predicate, a URI such as `https://spdx.dev/Document`; empty with an empty predicate.
    struct lxi_str predicate_type;
    // The predicate, a JSON object of any content; or empty.
    struct lxi_bytes predicate;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_statement_options;

// A signed statement; filled by `lxi_statements_at`. Set `size` to `sizeof(lxi_statement)` before. What it says is a
// claim of whoever signed it.
typedef struct lxi_statement {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The sha256 of the envelope in hex, which names it in a store.
    struct lxi_str digest;
    // The type of the predicate, a URI.
    struct lxi_str predicate_type;
    // The predicate, a JSON object.
    struct lxi_str predicate;
    // The envelope in JSON, on one line without a line feed.
    struct lxi_str envelope;
} lxi_statement;

// Signs a statement about the image with this fingerprint, with all `keys`. `options` may be NULL.
//
// Owner: the caller, who frees the result, one statement, with `lxi_statements_free`. Threads: any. Errors:
// LXI_INVALID_INPUT without a key, and for a type that is no URI; LXI_MALFORMED for a predicate that is no JSON
// object.
lxi_status lxi_statement_sign(const struct lxi_fingerprint *fingerprint,
                              const struct lxi_secret_key *const *keys,
                              size_t keys_len,
                              const struct lxi_statement_options *options,
                              struct lxi_statements **signed_,
                              struct lxi_error **error);

// Signs a statement about an image of a store, with the fingerprint and the sha256 of each of its files as subjects,
// and keeps it beside the image. Reads the image's files. `options` and `signed` may be NULL.
//
// Owner: the caller, who frees the result, one statement, with `lxi_statements_free`. Threads: any. Errors: as
// `lxi_statement_sign` and `lxi_store_attach_statements`; LXI_MISMATCH if the bytes in the store are not those of the
// image; LXI_CANCELLED.
lxi_status lxi_store_sign(const struct lxi_store *store,
                          const struct lxi_fingerprint *fingerprint,
                          const struct lxi_secret_key *const *keys,
                          size_t keys_len,
                          const struct lxi_statement_options *options,
                          struct lxi_statements **signed_,
                          struct lxi_error **error);

// Parses statements: one envelope in JSON, or a bundle with one on each line. Parsed is not verified. `limits` may be
// NULL.
//
// Owner: the caller, who frees the result with `lxi_statements_free`. Threads: any. Errors: LXI_MALFORMED;
// LXI_UNSUPPORTED for another kind of payload; LXI_LIMIT_EXCEEDED (`statement`, `statements`).
lxi_status lxi_statements_parse(struct lxi_bytes content,
                                const struct lxi_limits *limits,
                                struct lxi_statements **parsed,
                                struct lxi_error **error);

// The statements about an image of a store. Nobody has verified them.
//
// Owner: the caller, who frees the result with `lxi_statements_free`. Threads: any. Errors: LXI_NOT_FOUND;
// LXI_MALFORMED when the catalog is damaged; LXI_IO.
lxi_status lxi_store_statements(const struct lxi_store *store,
                                const struct lxi_fingerprint *fingerprint,
                                struct lxi_statements **found,
                                struct lxi_error **error);

// Keeps statements about an image beside it: servers give them out, and exports to a registry, a tree or a bundle take
// them along. Those that are there already change nothing.
//
// Threads: any. Errors: LXI_NOT_FOUND; LXI_MISMATCH for a statement about another image; LXI_LIMIT_EXCEEDED
// (`statements`); LXI_BUSY; LXI_IO.
lxi_status lxi_store_attach_statements(const struct lxi_store *store,
                                       const struct lxi_fingerprint *fingerprint,
                                       const struct lxi_statements *given,
                                       struct lxi_error **error);

// How many statements there are.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_statements_len(const struct lxi_statements *given, size_t *len, struct lxi_error **error);

// Fills `statement` with the one with an index from 0.
//
// Owner: the texts belong to the handle. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_statements_at(const struct lxi_statements *given,
                             size_t index,
                             struct lxi_statement *statement,
                             struct lxi_error **error);

// Whether the statement with an index from 0 is about the image with this fingerprint, and really signed by this key.
//
// Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_statements_signed_by(const struct lxi_statements *given,
                                    size_t index,
                                    const struct lxi_fingerprint *fingerprint,
                                    const struct lxi_public_key *key,
                                    bool *yes,
                                    struct lxi_error **error);

// Fails unless one of the statements is about the image with this fingerprint, of this type unless that is empty, and
// signed by at least one of `keys`. `count` gets how many are, and may be NULL.
//
// Threads: any. Errors: LXI_UNTRUSTED.
lxi_status lxi_statements_verify(const struct lxi_statements *given,
                                 const struct lxi_fingerprint *fingerprint,
                                 struct lxi_str predicate_type,
                                 const struct lxi_public_key *const *keys,
                                 size_t keys_len,
                                 size_t *count,
                                 struct lxi_error **error);

// The statements as a bundle of in-toto: one envelope on each line.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_statements_bundle(const struct lxi_statements *given,
                                 struct lxi_buffer **bundle,
                                 struct lxi_error **error);

// Frees statements; NULL is allowed. Those that a store keeps stay there.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_statements_free(struct lxi_statements *given);

// Rules about what images need. Read-only, so it may be shared between threads. `lxi_store_options` takes one: then
// each way into the store asks it.
typedef struct lxi_policy lxi_policy;

// Why an image was admitted, and who vouches for it. Read-only, so it may be shared between threads.
typedef struct lxi_admission lxi_admission;

// An image that is judged. Set `size` to `sizeof(lxi_candidate)` and the fingerprint; the rest may be zero.
typedef struct lxi_candidate {
    // The size of this structure in bytes.
    size_t size;
    // The fingerprint, which must be verified: `lxi_image_verify`.
    const struct lxi_fingerprint *fingerprint;
    // The address of the server that it comes from; empty for files.
    struct lxi_str server;
    // All aliases that it will have.
    const struct lxi_str *aliases;
    // How many.
    size_t aliases_len;
    // Its properties.
    const struct lxi_pair *properties;
    // How many.
    size_t properties_len;
    // The statements about it, or NULL; their signatures need not be verified yet.
    const struct lxi_statements *statements;
    // The key that signed the list that named it, if that was verified; or empty.
    struct lxi_str list_key;
} lxi_candidate;

// Why an image was admitted; filled by `lxi_admission_get`. Set `size` to `sizeof(lxi_admission_info)` before. Times
// are seconds since 1970, and 0 where there is none.
typedef struct lxi_admission_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // Whether a policy answered: `rule` and `vouched` are from it.
    bool admitted;
    // The rule that decided; empty if no rule was for the image.
    struct lxi_str rule;
    // How many sentences say who vouched: `lxi_admission_vouched_at`.
    size_t vouched;
    // When the policy answered, for an image of a store.
    int64_t admitted_at;
    // The key that signed the list of the server that the image came from; or empty.
    struct lxi_str list_key;
    // When that list was signed, if its signature tells.
    int64_t list_signed_at;
    // When the store noted that.
    int64_t list_noted_at;
} lxi_admission_info;

// Reads a policy from a file in TOML, as TRUST.md describes it. Files of keys that it names are relative to its
// directory, and names of remotes are those of `settings`, which may be NULL if it names none.
//
// Owner: the caller, who frees it with `lxi_policy_free`. Threads: any. Errors: LXI_INVALID_INPUT for what is no
// policy, unknown keys and unknown remotes; those of `lxi_public_key_read`; LXI_IO; LXI_LIMIT_EXCEEDED.
lxi_status lxi_policy_read(struct lxi_str path,
                           const struct lxi_settings *settings,
                           struct lxi_policy **policy,
                           struct lxi_error **error);

// Parses a policy. `directory` is where files of keys are looked for. `settings` may be NULL, as for
// `lxi_policy_read`.
//
// Owner, threads and errors: as `lxi_policy_read`.
lxi_status lxi_policy_parse(struct lxi_str text,
                            struct lxi_str directory,
                            const struct lxi_settings *settings,
                            struct lxi_policy **policy,
                            struct lxi_error **error);

// Frees a policy; NULL is allowed. A store that was opened with it keeps its own.
//
// Threads: any, the policy being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_policy_free(struct lxi_policy *policy);

// Judges an image that is in no store. `admission` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_admission_free`. Threads: any. Errors: LXI_UNTRUSTED, with the
// rule and what is missing.
lxi_status lxi_policy_admit(const struct lxi_policy *policy,
                            const struct lxi_candidate *candidate,
                            struct lxi_admission **admission,
                            struct lxi_error **error);

// Judges an image of a store, by what the store keeps about it. `admission` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_admission_free`. Threads: any. Errors: LXI_UNTRUSTED, with the
// rule and what is missing; LXI_NOT_FOUND; LXI_MALFORMED when the catalog is damaged; LXI_IO.
lxi_status lxi_store_ask_policy(const struct lxi_store *store,
                                const struct lxi_policy *policy,
                                const struct lxi_fingerprint *fingerprint,
                                struct lxi_admission **admission,
                                struct lxi_error **error);

// Who vouched for an image of a store when it became visible: the signed list that named it, and what the store's
// policy answered.
//
// Owner: the caller, who frees the result with `lxi_admission_free`. Threads: any. Errors: LXI_NOT_FOUND;
// LXI_MALFORMED when the catalog is damaged; LXI_IO.
lxi_status lxi_store_vouched(const struct lxi_store *store,
                             const struct lxi_fingerprint *fingerprint,
                             struct lxi_admission **admission,
                             struct lxi_error **error);

// Fills `info` with why an image was admitted.
//
// Owner: the texts belong to the handle. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_admission_get(const struct lxi_admission *admission,
                             struct lxi_admission_info *info,
                             struct lxi_error **error);

// A sentence about who vouched, with an index from 0.
//
// Owner: the text belongs to the handle. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_admission_vouched_at(const struct lxi_admission *admission,
                                    size_t index,
                                    struct lxi_str *sentence,
                                    struct lxi_error **error);

// Frees an admission; NULL is allowed.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_admission_free(struct lxi_admission *admission);

/* ==== Stores: open, list, find ==== */

// A store of images. Any number of processes may use one store, and any number of threads one handle: every call but
// `lxi_store_free` takes it as const.
typedef struct lxi_store lxi_store;

// Returns the time in seconds since 1970. Called from any thread, also from several at the same time. Must not unwind
// or jump out.
typedef int64_t (*lxi_clock_fn)(void *user);

// How a store is opened. NULL, or all but `size` zero: makes the store if it is not there, and waits five seconds for
// other writers.
typedef struct lxi_store_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_STORE_….
    uint32_t flags;
    // How many threads decode an image that is verified, at most; 0 for all cores.
    uint32_t threads;
    // With LXI_STORE_BUSY_TIMEOUT: how long to wait for other writers before failing with LXI_BUSY.
    uint64_t busy_milliseconds;
    // The limits for images that come in, or NULL.
    const struct lxi_limits *limits;
    // Where the time comes from; NULL for the machine's clock. Used until the store and all servers of it are freed.
    lxi_clock_fn clock;
    // Handed to `clock`.
    void *clock_user;
    // What images need before this handle makes them visible, whatever brings them: imports, copies, refreshes,
    // caches, uploads to a server of it, new aliases. NULL for nothing. An image that is refused fails with
    // LXI_UNTRUSTED.
    const struct lxi_policy *policy;
} lxi_store_options;

// A store that is not there is an error.
#define LXI_STORE_NO_CREATE 1

// Changes nothing, not even leftovers. Works on a file system that can only be read.
#define LXI_STORE_READ_ONLY 2

// `busy_milliseconds` is set.
#define LXI_STORE_BUSY_TIMEOUT 4

// Opens the store at `path`: a directory, or a file in TOML that describes where its parts are (see
// `lxi_store_open_described`). `options` may be NULL.
//
// Owner: the caller, who frees it with `lxi_store_free`. Threads: any. Errors: LXI_NOT_FOUND when it is not there and
// not to be made; LXI_UNSUPPORTED for a newer layout and for a directory of something else; LXI_MALFORMED when it is
// damaged; LXI_FEATURE_DISABLED for a bucket or a database that this build can't use; LXI_BUSY; LXI_IO.
lxi_status lxi_store_open(struct lxi_str path,
                          const struct lxi_store_options *options,
                          struct lxi_store **store,
                          struct lxi_error **error);

// Opens a store whose catalog and images are at the addresses that a text in TOML says: `catalog` is the path of an
// SQLite database or `postgresql://USER@HOST/DATABASE`, `blobs` a directory, `s3://BUCKET/PREFIX`, `gs://…` or
// `az://…`; a table `[s3]` may have `endpoint`, `region`, `allow_http` and `path_style`, and `scratch` is a local
// directory for what arrives. Relative paths start at `directory`. Credentials come from the engines' usual
// environment variables and files. `options` may be NULL.
//
// Owner: the caller, who frees it with `lxi_store_free`. Threads: any. Errors: as `lxi_store_open`; LXI_MALFORMED with
// the line for a text that is no description.
lxi_status lxi_store_open_described(struct lxi_str description,
                                    struct lxi_str directory,
                                    const struct lxi_store_options *options,
                                    struct lxi_store **store,
                                    struct lxi_error **error);

// Frees a store; NULL is allowed. What is on the disk stays.
//
// Threads: any, the store being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_store_free(struct lxi_store *store);

// The images that meet all filters, or all images, in the order of their fingerprints. A filter is a word, which
// matches a part of an alias or the beginning of a fingerprint, or `key=value`, which matches a property or a field.
//
// Owner: the caller, who frees the list with `lxi_image_list_free`. Threads: any. Errors: LXI_INVALID_INPUT for a
// filter that is none, LXI_MALFORMED when the catalog is damaged, LXI_IO. All of them are in memory at once:
// `lxi_store_query` is for large stores.
lxi_status lxi_store_list(const struct lxi_store *store,
                          const struct lxi_str *filters,
                          size_t filters_len,
                          struct lxi_image_list **images,
                          struct lxi_error **error);

// The image that `reference` names: an alias, a whole fingerprint, or the first digits of exactly one, at least four.
// An alias wins over a fingerprint that begins like it; where a container's and a virtual machine's image share it,
// the container's is meant.
//
// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND, whose hint
// suggests what is near; LXI_AMBIGUOUS, naming the candidates; LXI_MALFORMED when the catalog is damaged; LXI_IO.
lxi_status lxi_store_resolve(const struct lxi_store *store,
                             struct lxi_str reference,
                             struct lxi_stored_image **image,
                             struct lxi_error **error);

// As `lxi_store_resolve`, with the type that is meant where a container's and a virtual machine's image share an
// alias: LXI_TYPE_…, or 0. An image of the other type is found where none of this type has the alias.
//
// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: as `lxi_store_resolve`;
// LXI_INVALID_INPUT for an unknown type.
lxi_status lxi_store_resolve_preferring(const struct lxi_store *store,
                                        struct lxi_str reference,
                                        lxi_image_type preferred,
                                        struct lxi_stored_image **image,
                                        struct lxi_error **error);

// One image, as it is now.
//
// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND, LXI_MALFORMED
// when the catalog is damaged, LXI_IO.
lxi_status lxi_store_image(const struct lxi_store *store,
                           const struct lxi_fingerprint *fingerprint,
                           struct lxi_stored_image **image,
                           struct lxi_error **error);

// Opens an image's files to verify, unpack or convert them. They stay readable to the end, also when the image is
// deleted. `limits` may be NULL.
//
// Owner: the caller, who frees it with `lxi_image_free`; it may outlive the store. Threads: any. Errors:
// LXI_NOT_FOUND; LXI_MISMATCH when a file is not as long as it was; LXI_MALFORMED when one is missing; LXI_IO.
lxi_status lxi_store_open_image(const struct lxi_store *store,
                                const struct lxi_fingerprint *fingerprint,
                                const struct lxi_limits *limits,
                                struct lxi_image **image,
                                struct lxi_error **error);

// Records that the image is used now: a cached image is then kept longer.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_BUSY, LXI_IO.
lxi_status lxi_store_mark_used(const struct lxi_store *store,
                               const struct lxi_fingerprint *fingerprint,
                               struct lxi_error **error);

// Removes an image and its aliases. Calls that have it open can read it to the end. Works on a full disk.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_BUSY, LXI_IO.
lxi_status lxi_store_delete(const struct lxi_store *store,
                            const struct lxi_fingerprint *fingerprint,
                            struct lxi_error **error);

// Removes an image and its aliases, if nobody changed it since it was looked up: `etag` is that of
// `lxi_stored_image_info`.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_MISMATCH when it was changed, LXI_BUSY, LXI_IO.
lxi_status lxi_store_delete_unchanged(const struct lxi_store *store,
                                      const struct lxi_fingerprint *fingerprint,
                                      struct lxi_str etag,
                                      struct lxi_error **error);

// An image of a store, as it was when it was looked up. Read-only, so it may be shared between threads.
typedef struct lxi_stored_image lxi_stored_image;

// What a store knows of an image; filled by `lxi_stored_image_get`. Set `size` to `sizeof(lxi_stored_image_info)`
// before. Times are seconds since 1970.
typedef struct lxi_stored_image_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The digest of its bytes, which names it.
    struct lxi_fingerprint fingerprint;
    // Container or virtual machine.
    lxi_image_type image_type;
    // One file or two.
    lxi_form form;
    // The kernel's name of the machine that it is for: `x86_64`.
    struct lxi_str architecture;
    // The size of all its files in bytes.
    uint64_t bytes;
    // The size of the rootfs file of a split image in bytes; else 0.
    uint64_t rootfs_bytes;
    // When it was made, as its metadata says.
    int64_t created_at;
    // When it may be removed; 0 for never.
    int64_t expires_at;
    // When it came into this store.
    int64_t uploaded_at;
    // When something was last made from it; 0 for never.
    int64_t last_used_at;
    // Counts the changes made to it in this store.
    uint64_t revision;
    // What an edit may be based on: the ETag that LXD's REST API gives.
    struct lxi_str etag;
    // The name that its file came with: of a split image, the metadata's. May be empty.
    struct lxi_str file_name;
    // The name that the rootfs file came with. May be empty.
    struct lxi_str rootfs_name;
    // Where newer versions come from: the server's address; empty for nowhere.
    struct lxi_str source_server;
    // How to talk to it: `lxd`, `simplestreams` or `direct`.
    struct lxi_str source_protocol;
    // The alias that was asked for there.
    struct lxi_str source_alias;
    // How many properties it has: `lxi_stored_image_property_at`.
    size_t properties;
    // How many aliases it has: `lxi_stored_image_alias_at`.
    size_t aliases;
    // Whether clients that have not authenticated may read it.
    bool is_public;
    // Whether it follows its source.
    bool auto_update;
    // Whether it came as a side effect of using a remote image, and goes when it is not used.
    bool cached;
} lxi_stored_image_info;

// Fills `info` with what the store knew of the image.
//
// Owner: the texts belong to the image. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_stored_image_get(const struct lxi_stored_image *image,
                                struct lxi_stored_image_info *info,
                                struct lxi_error **error);

// A property of the image, with an index from 0.
//
// Owner: the texts belong to the image. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_stored_image_property_at(const struct lxi_stored_image *image,
                                        size_t index,
                                        struct lxi_str *key,
                                        struct lxi_str *value,
                                        struct lxi_error **error);

// The value of a property.
//
// Owner: the text belongs to the image. Threads: any. Errors: LXI_NOT_FOUND.
lxi_status lxi_stored_image_property(const struct lxi_stored_image *image,
                                     struct lxi_str key,
                                     struct lxi_str *value,
                                     struct lxi_error **error);

// An alias of the image, sorted, with an index from 0.
//
// Owner: the texts belong to the image. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_stored_image_alias_at(const struct lxi_stored_image *image,
                                     size_t index,
                                     struct lxi_str *name,
                                     struct lxi_str *description,
                                     struct lxi_error **error);

// The image as the image object of LXD's REST API.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_stored_image_to_json(const struct lxi_stored_image *image,
                                    struct lxi_buffer **json,
                                    struct lxi_error **error);

// Frees what was known of an image; NULL is allowed. The image stays.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_stored_image_free(struct lxi_stored_image *image);

// Images of a store. Read-only, so it may be shared between threads.
typedef struct lxi_image_list lxi_image_list;

// Images that a list left out, and why. Read-only, so it may be shared between threads.
typedef struct lxi_near_misses lxi_near_misses;

// How many images there are.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_image_list_len(const struct lxi_image_list *images, size_t *len, struct lxi_error **error);

// A copy of the image with an index from 0.
//
// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND for an index past
// the end.
lxi_status lxi_image_list_at(const struct lxi_image_list *images,
                             size_t index,
                             struct lxi_stored_image **image,
                             struct lxi_error **error);

// Frees a list; NULL is allowed.
//
// Threads: any, the list being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_image_list_free(struct lxi_image_list *images);

// Why images are not in the list that `lxi_store_list` gives for these filters: those that don't meet all of them,
// with a sentence for each that they miss. The ones that miss fewest come first. All of them are in memory at once.
//
// Owner: the caller, who frees the result with `lxi_near_misses_free`. Threads: any. Errors: LXI_INVALID_INPUT for a
// filter that is none, LXI_MALFORMED when the catalog is damaged, LXI_IO.
lxi_status lxi_store_explain(const struct lxi_store *store,
                             const struct lxi_str *filters,
                             size_t filters_len,
                             struct lxi_near_misses **misses,
                             struct lxi_error **error);

// How many images there are.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_near_misses_len(const struct lxi_near_misses *misses, size_t *len, struct lxi_error **error);

// The image with an index from 0, and how many filters it does not meet (`reasons` may be NULL).
//
// Owner: the caller, who frees the image with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND for an
// index past the end.
lxi_status lxi_near_misses_at(const struct lxi_near_misses *misses,
                              size_t index,
                              struct lxi_stored_image **image,
                              size_t *reasons,
                              struct lxi_error **error);

// A reason why an image is not in the list, both with an index from 0.
//
// Owner: the text belongs to the handle. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_near_misses_reason_at(const struct lxi_near_misses *misses,
                                     size_t image,
                                     size_t index,
                                     struct lxi_str *reason,
                                     struct lxi_error **error);

// Frees the result of `lxi_store_explain`; NULL is allowed.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_near_misses_free(struct lxi_near_misses *misses);

// A position in a list of images: of a store, or of a remote. Depends on nothing that it was made of.
typedef struct lxi_image_cursor lxi_image_cursor;

// Which images of a store, and in which order. NULL, or all but `size` zero: all, in the order of their fingerprints.
// All conditions must hold. An index of the catalog serves all of them but `filters`.
typedef struct lxi_image_query {
    // The size of this structure in bytes.
    size_t size;
    // LXI_QUERY_….
    uint32_t flags;
    // LXI_TYPE_…, or 0 for both.
    lxi_image_type image_type;
    // How many rows are read at once, up to 10,000; 0 for 1,000. Bounds the memory of the cursor.
    uint32_t page;
    // Padding; must be 0.
    uint32_t reserved;
    // Only images for this machine, by any of its names; empty for all.
    struct lxi_str architecture;
    // Only images whose fingerprint begins so, at least four digits; empty for all.
    struct lxi_str prefix;
    // Only images with all of these properties, each a name and its whole value.
    const struct lxi_pair *properties;
    // How many.
    size_t properties_len;
    // Only images that meet these filters, as `lxi_store_list` takes them. Each row is looked at.
    const struct lxi_str *filters;
    // How many.
    size_t filters_len;
} lxi_image_query;

// Only public images.
#define LXI_QUERY_PUBLIC 1

// Only private images.
#define LXI_QUERY_PRIVATE 2

// Only cached images.
#define LXI_QUERY_CACHED 4

// Only images that are not cached.
#define LXI_QUERY_KEPT 8

// Only images that follow a source.
#define LXI_QUERY_AUTO_UPDATE 16

// In the order of the first alias, then of the fingerprint; those without an alias last.
#define LXI_QUERY_BY_ALIAS 32

// Begins a list of the images of a store that meet `query`, which may be NULL. Nothing is read yet.
//
// Owner: the caller, who frees the cursor with `lxi_image_cursor_free`; it may outlive the store. Threads: any. Errors:
// LXI_INVALID_INPUT for a condition that is none.
lxi_status lxi_store_query(const struct lxi_store *store,
                           const struct lxi_image_query *query,
                           struct lxi_image_cursor **cursor,
                           struct lxi_error **error);

// How many images of a store meet `query`, which may be NULL, and the bytes of their files. The catalog counts them:
// `filters` must be empty. `images` and `bytes` may be NULL.
//
// Threads: any. Errors: LXI_INVALID_INPUT for a condition that is none and for filters; LXI_MALFORMED when the catalog
// is damaged; LXI_IO.
lxi_status lxi_store_totals(const struct lxi_store *store,
                            const struct lxi_image_query *query,
                            uint64_t *images,
                            uint64_t *bytes,
                            struct lxi_error **error);

// The next image; `image` is NULL after the last one, and the call works then too. Images that are added or removed
// meanwhile may be among them or not; all others come exactly once. A row that cannot be read is an omission of
// `monitor`, which may be NULL.
//
// Owner: the caller, who frees the image with `lxi_stored_image_free`. Threads: one at a time. Errors: LXI_MALFORMED
// when the catalog is damaged; LXI_CANCELLED; LXI_IO. The cursor may be used again after an error.
lxi_status lxi_image_cursor_next(struct lxi_image_cursor *cursor,
                                 const struct lxi_monitor *monitor,
                                 struct lxi_stored_image **image,
                                 struct lxi_error **error);

// Frees a cursor; NULL is allowed.
//
// Threads: any, the cursor being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_image_cursor_free(struct lxi_image_cursor *cursor);

/* ==== Stores: import, edit, export, keep in order ==== */

// A name that points to an image.
typedef struct lxi_alias {
    // The name; it may hold `/`.
    struct lxi_str name;
    // What it is for, in words; may be empty.
    struct lxi_str description;
} lxi_alias;

// Where an image came from and newer versions of it come from. Set `size` to `sizeof(lxi_update_source)`.
typedef struct lxi_update_source {
    // The size of this structure in bytes.
    size_t size;
    // The server's address.
    struct lxi_str server;
    // How to talk to the server: `lxd`, `simplestreams` or `direct`.
    struct lxi_str protocol;
    // The alias that was asked for.
    struct lxi_str alias;
    // The server's certificate in PEM, where it is not signed by a known authority; or empty.
    struct lxi_str certificate;
    // Whether a container's or a virtual machine's image is meant by the alias; 0 if that is not said.
    lxi_image_type image_type;
} lxi_update_source;

// How an image is imported. NULL, or all but `size` zero: a private image without an alias, described by its own
// metadata.
typedef struct lxi_import_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_IMPORT_….
    uint32_t flags;
    // Aliases that it gets.
    const struct lxi_alias *aliases;
    // How many.
    size_t aliases_len;
    // Properties that win over the image's own, and survive a refresh.
    const struct lxi_pair *properties;
    // How many.
    size_t properties_len;
    // Properties that the image's source tells: they win over the image's own, and a refresh brings newer ones.
    const struct lxi_pair *source_properties;
    // How many.
    size_t source_properties_len;
    // The fingerprint that it must have, or NULL.
    const struct lxi_fingerprint *expected_fingerprint;
    // When it may be removed, in seconds since 1970; wins over the image's own date. 0 if that is not said.
    int64_t expires_at;
    // The name that its file is exported under; or empty. Refused unless it is a plain name.
    struct lxi_str file_name;
    // Where it comes from, or NULL.
    const struct lxi_update_source *source;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
    // Statements about the image, which are kept beside it, and which the policy of the store may demand; or NULL.
    const struct lxi_statements *statements;
} lxi_import_options;

// Aliases that are taken move to the new image, instead of being an error.
#define LXI_IMPORT_REUSE_ALIASES 1

// Clients that have not authenticated may read it.
#define LXI_IMPORT_PUBLIC 2

// It follows its source, which must be given.
#define LXI_IMPORT_AUTO_UPDATE 4

// It comes as a side effect of being used, and goes when it is no longer used.
#define LXI_IMPORT_CACHED 8

// An image that is there already gets the aliases, instead of being an error.
#define LXI_IMPORT_ADD_ALIASES 16

// An image that loses its last alias to it is deleted, unless it is to be kept.
#define LXI_IMPORT_REPLACE_IMAGES 32

// Brings an image in, one file with `second` NULL, or metadata and rootfs in either order: its bytes are copied into
// the store's own file system, hashed and verified, and become visible with all that `options` say in one step. A
// cached image that is imported on purpose becomes a published one. `options` and `image` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: LXI_ALREADY_EXISTS for
// an image that is there, or an alias that is taken; LXI_MISMATCH for another fingerprint than the expected one;
// those of verifying an image; LXI_INVALID_INPUT for an alias or a file name that is none, or an architecture that is
// not known; LXI_BUSY; LXI_CANCELLED; LXI_IO. The store is as it was.
lxi_status lxi_store_import(const struct lxi_store *store,
                            const struct lxi_input *first,
                            const struct lxi_input *second,
                            const struct lxi_import_options *options,
                            struct lxi_stored_image **image,
                            struct lxi_error **error);

// Packs a root file system and imports the image in one step: what a container manager does with a stopped instance.
// `options`, `image` and `written` may be NULL. The monitor is that of `packing` or of `options`; two that differ are
// LXI_INVALID_INPUT.
//
// Owner: the caller, who frees the results with `lxi_stored_image_free` and `lxi_written_free`. Threads: any. Errors:
// those of `lxi_pack_to` and of `lxi_store_import`; the store is as it was.
lxi_status lxi_store_publish(const struct lxi_store *store,
                             const struct lxi_pack_options *packing,
                             const struct lxi_import_options *options,
                             struct lxi_stored_image **image,
                             struct lxi_written **written,
                             struct lxi_error **error);

// A change to an image. Set `size` to `sizeof(lxi_edit)`; what is zero does not change.
typedef struct lxi_edit {
    // The size of this structure in bytes.
    size_t size;
    // LXI_EDIT_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // With LXI_EDIT_EXPIRES_AT: when it may be removed, in seconds since 1970; 0 for never.
    int64_t expires_at;
    // Properties to set.
    const struct lxi_pair *properties;
    // How many.
    size_t properties_len;
    // Names of properties to remove, where they are there.
    const struct lxi_str *remove;
    // How many.
    size_t remove_len;
    // The ETag that the image must still have; or empty.
    struct lxi_str etag;
    // With LXI_EDIT_REVISION: the revision that the image must still have.
    uint64_t revision;
} lxi_edit;

// Clients that have not authenticated may read it.
#define LXI_EDIT_PUBLIC 1

// They may not.
#define LXI_EDIT_PRIVATE 2

// It follows its source.
#define LXI_EDIT_AUTO_UPDATE 4

// It does not.
#define LXI_EDIT_NO_AUTO_UPDATE 8

// `expires_at` is said.
#define LXI_EDIT_EXPIRES_AT 16

// The properties replace all that are there.
#define LXI_EDIT_REPLACE_PROPERTIES 32

// `revision` is said.
#define LXI_EDIT_REVISION 64

// Changes an image, if it still is as `edit` says. `image`, which gets the image as it is then, may be NULL.
//
// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND;
// LXI_MISMATCH when somebody else changed it in between; LXI_INVALID_INPUT; LXI_BUSY; LXI_IO. Nothing has changed
// then.
lxi_status lxi_store_edit(const struct lxi_store *store,
                          const struct lxi_fingerprint *fingerprint,
                          const struct lxi_edit *edit,
                          struct lxi_stored_image **image,
                          struct lxi_error **error);

// Aliases of a store and what they point to. Read-only, so it may be shared between threads.
typedef struct lxi_alias_list lxi_alias_list;

// All aliases, sorted by name; of a name that a container's and a virtual machine's image share the container's comes
// first.
//
// Owner: the caller, who frees the list with `lxi_alias_list_free`. Threads: any. Errors: LXI_MALFORMED when the
// catalog is damaged, LXI_IO.
lxi_status lxi_store_aliases(const struct lxi_store *store, struct lxi_alias_list **aliases, struct lxi_error **error);

// What one alias points to: a list with that one. Where a container's and a virtual machine's image share the name,
// the container's.
//
// Owner: the caller, who frees the list with `lxi_alias_list_free`. Threads: any. Errors: LXI_NOT_FOUND, LXI_MALFORMED
// when the catalog is damaged, LXI_IO.
lxi_status lxi_store_alias(const struct lxi_store *store,
                           struct lxi_str name,
                           struct lxi_alias_list **aliases,
                           struct lxi_error **error);

// What one alias of images of a type points to: a list with that one. `image_type` is LXI_TYPE_…, or 0 for what
// `lxi_store_alias` gives.
//
// Owner: the caller, who frees the list with `lxi_alias_list_free`. Threads: any. Errors: LXI_NOT_FOUND,
// LXI_INVALID_INPUT for an unknown type, LXI_MALFORMED when the catalog is damaged, LXI_IO.
lxi_status lxi_store_alias_of_type(const struct lxi_store *store,
                                   struct lxi_str name,
                                   lxi_image_type image_type,
                                   struct lxi_alias_list **aliases,
                                   struct lxi_error **error);

// How many aliases there are.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_alias_list_len(const struct lxi_alias_list *aliases, size_t *len, struct lxi_error **error);

// The alias with an index from 0, and what it points to (`target` may be NULL).
//
// Owner: the texts belong to the list. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_alias_list_at(const struct lxi_alias_list *aliases,
                             size_t index,
                             struct lxi_alias *alias,
                             struct lxi_fingerprint *target,
                             struct lxi_error **error);

// The type of the images that the alias with an index from 0 is for: LXI_TYPE_….
//
// Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_alias_list_type_at(const struct lxi_alias_list *aliases,
                                  size_t index,
                                  lxi_image_type *image_type,
                                  struct lxi_error **error);

// Frees a list; NULL is allowed.
//
// Threads: any, the list being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_alias_list_free(struct lxi_alias_list *aliases);

// Makes an alias for images of the target's type: a container's and a virtual machine's image may share a name.
//
// Threads: any. Errors: LXI_INVALID_INPUT for an invalid name, LXI_ALREADY_EXISTS when it is taken,
// LXI_NOT_FOUND without the image, LXI_BUSY, LXI_IO.
lxi_status lxi_store_create_alias(const struct lxi_store *store,
                                  struct lxi_alias alias,
                                  const struct lxi_fingerprint *target,
                                  struct lxi_error **error);

// Points an alias of images of the target's type to another image, and sets its description, whether or not the alias
// exists.
//
// Threads: any. Errors: LXI_INVALID_INPUT for an invalid name, LXI_NOT_FOUND without the image, LXI_BUSY,
// LXI_IO.
lxi_status lxi_store_move_alias(const struct lxi_store *store,
                                struct lxi_alias alias,
                                const struct lxi_fingerprint *target,
                                struct lxi_error **error);

// Gives an alias another name: the container's, where a container's and a virtual machine's image share it.
//
// Threads: any. Errors: LXI_INVALID_INPUT for an invalid name, LXI_NOT_FOUND without the alias,
// LXI_ALREADY_EXISTS when the new name is taken, LXI_BUSY, LXI_IO.
lxi_status lxi_store_rename_alias(const struct lxi_store *store,
                                  struct lxi_str name,
                                  struct lxi_str new_name,
                                  struct lxi_error **error);

// Gives an alias of images of a type another name. `image_type` is LXI_TYPE_…, or 0 for what `lxi_store_rename_alias`
// renames.
//
// Threads: any. Errors: as `lxi_store_rename_alias`; LXI_INVALID_INPUT for an unknown type.
lxi_status lxi_store_rename_alias_of_type(const struct lxi_store *store,
                                          struct lxi_str name,
                                          struct lxi_str new_name,
                                          lxi_image_type image_type,
                                          struct lxi_error **error);

// Removes an alias: the container's, where a container's and a virtual machine's image share it. The image stays.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_BUSY, LXI_IO.
lxi_status lxi_store_delete_alias(const struct lxi_store *store, struct lxi_str name, struct lxi_error **error);

// Removes an alias of images of a type. `image_type` is LXI_TYPE_…, or 0 for what `lxi_store_delete_alias` removes.
// The image stays.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_INVALID_INPUT for an unknown type, LXI_BUSY, LXI_IO.
lxi_status lxi_store_delete_alias_of_type(const struct lxi_store *store,
                                          struct lxi_str name,
                                          lxi_image_type image_type,
                                          struct lxi_error **error);

// The files that an export made. Read-only, so it may be shared between threads.
typedef struct lxi_exported lxi_exported;

// Writes an image's files to `target`, compared with the fingerprint. Into a directory they go under the name they
// came with, or their fingerprint's: one file, or metadata as `meta-NAME` and rootfs. Any other target is a name: the
// image, or the metadata, gets it with its own ending, a rootfs with `.root`. `monitor` and `exported` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_exported_free`. Threads: any. Errors: LXI_NOT_FOUND;
// LXI_ALREADY_EXISTS for a file that is there; LXI_MISMATCH when the store's bytes are no longer the image;
// LXI_CANCELLED; LXI_IO. No part of the image is left then.
lxi_status lxi_store_export(const struct lxi_store *store,
                            const struct lxi_fingerprint *fingerprint,
                            struct lxi_str target,
                            const struct lxi_monitor *monitor,
                            struct lxi_exported **exported,
                            struct lxi_error **error);

// Writes a unified image to `write`, which gets `user`; both are used during the call only. `monitor` and `bytes`,
// which gets the image's size, may be NULL.
//
// Threads: any; `write` is called on the caller's. Errors: LXI_NOT_FOUND; LXI_INVALID_INPUT for a split image, which
// is two streams; LXI_MISMATCH when the store's bytes turn out not to be the image, after they were written; what
// `write` returns; LXI_CANCELLED; LXI_IO.
lxi_status lxi_store_export_to(const struct lxi_store *store,
                               const struct lxi_fingerprint *fingerprint,
                               lxi_write_fn write,
                               void *user,
                               const struct lxi_monitor *monitor,
                               uint64_t *bytes,
                               struct lxi_error **error);

// A file of the image, with an index from 0: the image, or its metadata and its rootfs.
//
// Owner: the path belongs to `exported`. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_exported_file_at(const struct lxi_exported *exported,
                                size_t index,
                                struct lxi_str *path,
                                struct lxi_error **error);

// Frees the result of an export; NULL is allowed. The files stay.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_exported_free(struct lxi_exported *exported);

// Which cached images go. NULL, or all but `size` zero: those that were not used for 10 days, which is what LXD does,
// and those past their expiry date. Images that were put in the store on purpose never go.
typedef struct lxi_prune_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_PRUNE_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // With LXI_PRUNE_UNUSED_FOR: how long an image must not have been used; with 0, only the expiry date counts.
    uint64_t unused_for_seconds;
    // With LXI_PRUNE_MAX_BYTES: how many bytes the cached images may have; over it, the least recently used go too.
    uint64_t max_bytes;
    // Cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_prune_options;

// Removes nothing, and tells what would be removed.
#define LXI_PRUNE_DRY_RUN 1

// `unused_for_seconds` is said.
#define LXI_PRUNE_UNUSED_FOR 2

// `max_bytes` is said.
#define LXI_PRUNE_MAX_BYTES 4

// Why an image was removed: LXI_REMOVED_….
typedef uint32_t lxi_removed;

// A value that this version of the list does not know.
#define LXI_REMOVED_OTHER 0

// Its expiry date is over.
#define LXI_REMOVED_EXPIRED 1

// It was not used for too long.
#define LXI_REMOVED_UNUSED 2

// The cached images had more bytes than they may, and it was among the least recently used.
#define LXI_REMOVED_EVICTED 3

// What a pruning removed, or would remove. Read-only, so it may be shared between threads.
typedef struct lxi_pruned lxi_pruned;

// How a store is checked. NULL, or all but `size` zero: looks, and changes nothing.
typedef struct lxi_check_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_CHECK_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_check_options;

// Puts right what is found, but for a damaged catalog: that is `lxi_store_repair`'s.
#define LXI_CHECK_REPAIR 1

// What a check found. Read-only, so it may be shared between threads.
typedef struct lxi_check_report lxi_check_report;

// What a check found; filled by `lxi_check_report_get`. Set `size` to `sizeof(lxi_check_info)` before.
typedef struct lxi_check_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // Images in the catalog.
    uint64_t images;
    // Bytes that were hashed.
    uint64_t bytes;
    // Leftovers of processes that are gone, swept on the way.
    uint64_t swept;
    // How many findings there are: `lxi_check_report_finding_at`.
    size_t findings;
    // How many of them a repair left as they are: `lxi_check_report_unrepaired_at`.
    size_t unrepaired;
} lxi_check_info;

// What is not as it must be: LXI_FINDING_….
typedef uint32_t lxi_finding_kind;

// A value that this version of the list does not know.
#define LXI_FINDING_OTHER 0

// The catalog is damaged. `lxi_store_repair` makes it anew.
#define LXI_FINDING_CATALOG 1

// An image's file is not there. Repairing removes the image.
#define LXI_FINDING_MISSING 2

// An image's bytes are not those of its fingerprint. Repairing puts the files aside and removes the image.
#define LXI_FINDING_DAMAGED 3

// An image's files can't be opened or read. Repairing leaves it where it is.
#define LXI_FINDING_UNREADABLE 4

// Files of an image that the catalog does not know. Repairing takes it in again, or puts the files aside.
#define LXI_FINDING_UNLISTED 5

// An image's sidecar file is not up to date. Repairing writes it.
#define LXI_FINDING_SIDECAR 6

// A file that no store makes. Repairing puts it aside.
#define LXI_FINDING_STRAY 7

// What could not be brought back when the catalog was made anew.
#define LXI_FINDING_LOST 8

// An image's files are whole, and the catalog has other sizes. Repairing corrects the catalog.
#define LXI_FINDING_ROW 9

// One finding; filled by `lxi_check_report_finding_at`. Set `size` to `sizeof(lxi_finding)` before.
typedef struct lxi_finding {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // What is not as it must be.
    lxi_finding_kind kind;
    // Whether it is about one image, which `fingerprint` names.
    bool has_fingerprint;
    // The image.
    struct lxi_fingerprint fingerprint;
    // The finding in words.
    struct lxi_str message;
} lxi_finding;

// Removes the cached images that `options`, which may be NULL, name, and layers of container images that were not used
// as long. `count` gets how many images that are, `bytes` the bytes of all; they and `pruned` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_pruned_free`. Threads: any. Errors: LXI_MALFORMED when the
// catalog is damaged or the blobs are not there, LXI_BUSY, LXI_CANCELLED, LXI_IO. What was removed before stays so.
lxi_status lxi_store_prune(const struct lxi_store *store,
                           const struct lxi_prune_options *options,
                           struct lxi_pruned **pruned,
                           size_t *count,
                           uint64_t *bytes,
                           struct lxi_error **error);

// An image that was removed, or would be, with an index from 0, and why (`reason` may be NULL).
//
// Owner: the caller, who frees the image with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND past the
// last one.
lxi_status lxi_pruned_at(const struct lxi_pruned *pruned,
                         size_t index,
                         struct lxi_stored_image **image,
                         lxi_removed *reason,
                         struct lxi_error **error);

// Frees the result of pruning; NULL is allowed.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_pruned_free(struct lxi_pruned *pruned);

// Hashes every image, compares catalog and files, and sweeps leftovers. `options` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_check_report_free`. Threads: any. Errors: LXI_MALFORMED when the
// blobs are not those of this store, LXI_CANCELLED, LXI_BUSY, LXI_IO. What is damaged is no error but a finding.
lxi_status lxi_store_check(const struct lxi_store *store,
                           const struct lxi_check_options *options,
                           struct lxi_check_report **report,
                           struct lxi_error **error);

// Checks the store at `path` and repairs what it can, the catalog included: one that is damaged or missing is rebuilt
// anew from the images. No other process may use the store meanwhile. `open_options` and `check_options` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_check_report_free`. Threads: any. Errors: LXI_NOT_FOUND without a
// store, LXI_MALFORMED when the blobs are not those of this store, LXI_UNSUPPORTED for a newer layout, LXI_CANCELLED,
// LXI_IO.
lxi_status lxi_store_repair(struct lxi_str path,
                            const struct lxi_store_options *open_options,
                            const struct lxi_check_options *check_options,
                            struct lxi_check_report **report,
                            struct lxi_error **error);

// Fills `info` with what a check found.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_check_report_get(const struct lxi_check_report *report,
                                struct lxi_check_info *info,
                                struct lxi_error **error);

// Fills `finding` with something that is not as it must be, with an index from 0.
//
// Owner: the text belongs to the report. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_check_report_finding_at(const struct lxi_check_report *report,
                                       size_t index,
                                       struct lxi_finding *finding,
                                       struct lxi_error **error);

// Fills `finding` with one of those that a repair left as they are, with an index from 0, and `reason` with why.
//
// Owner: the texts belong to the report. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_check_report_unrepaired_at(const struct lxi_check_report *report,
                                          size_t index,
                                          struct lxi_finding *finding,
                                          struct lxi_str *reason,
                                          struct lxi_error **error);

// Frees a report; NULL is allowed.
//
// Threads: any, the report being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_check_report_free(struct lxi_check_report *report);

/* ==== OCI layouts and bundles ==== */

// Names. Read-only, so it may be shared between threads.
typedef struct lxi_names lxi_names;

// How many names there are.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_names_len(const struct lxi_names *names, size_t *len, struct lxi_error **error);

// The name with an index from 0.
//
// Owner: the text belongs to the list. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_names_at(const struct lxi_names *names, size_t index, struct lxi_str *name, struct lxi_error **error);

// Frees a list; NULL is allowed.
//
// Threads: any, the list being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_names_free(struct lxi_names *names);

// Which image of an OCI layout is meant, and what a container image becomes. NULL, or all but `size` zero: the only
// image, for this machine, on all cores.
typedef struct lxi_layout_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_LAYOUT_….
    uint32_t flags;
    // How many threads work, at most; 0 for all cores.
    uint32_t threads;
    // The image's name in the layout; empty for the only one.
    struct lxi_str image;
    // The machine, by any of its names, of an image that is there for several; empty for this one.
    struct lxi_str architecture;
    // The codec of a container image, with or without a level, such as `zstd:19`; empty for the usual one.
    struct lxi_str compression;
    // The limits that the layout and its image are held to, or NULL.
    const struct lxi_limits *limits;
} lxi_layout_options;

// A container image boots its init, instead of running its entry point.
#define LXI_LAYOUT_SYSTEM 1

// How a bundle is imported. NULL, or all but `size` zero: private images, whose aliases must be free.
typedef struct lxi_bundle_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_BUNDLE_….
    uint32_t flags;
    // How many threads convert a container image, at most; 0 for all cores.
    uint32_t threads;
    // The limits that the layout and its images are held to, or NULL.
    const struct lxi_limits *limits;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_bundle_options;

// Clients that have not authenticated may read the images.
#define LXI_BUNDLE_PUBLIC 1

// Aliases that are taken move; an image that thereby loses its last one is deleted, unless it is to be kept.
#define LXI_BUNDLE_REUSE_ALIASES 2

// The names of the images in an OCI layout, a directory or a tar that is not compressed. `limits` and `monitor` may be
// NULL.
//
// Owner: the caller, who frees the list with `lxi_names_free`. Threads: any. Errors: LXI_NOT_FOUND; LXI_MALFORMED for
// what is no layout; LXI_UNSUPPORTED; LXI_LIMIT_EXCEEDED; LXI_CANCELLED; LXI_IO.
lxi_status lxi_layout_names(struct lxi_str path,
                            const struct lxi_limits *limits,
                            const struct lxi_monitor *monitor,
                            struct lxi_names **names,
                            struct lxi_error **error);

// Imports an image of an OCI layout: one of LXD or Incus as it is, with the statements that the layout has beside it,
// and a container image as the instance image that it becomes. What can't be taken along is an omission of the monitor
// of `import_options`. Both options, `image` and `incus_fingerprint` may be NULL; the last one gets the fingerprint
// that Incus would give a container image, and zeros for another one.
//
// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: those of
// `lxi_store_import`; LXI_NOT_FOUND, with the names that are there; LXI_AMBIGUOUS without a name where there are
// several; LXI_UNSUPPORTED for what is no such image, and where none is for the machine; LXI_INVALID_INPUT for
// LXI_LAYOUT_SYSTEM with an image of LXD or Incus. The store is as it was.
lxi_status lxi_store_import_layout(const struct lxi_store *store,
                                   struct lxi_str path,
                                   const struct lxi_layout_options *options,
                                   const struct lxi_import_options *import_options,
                                   struct lxi_stored_image **image,
                                   struct lxi_fingerprint *incus_fingerprint,
                                   struct lxi_error **error);

// Writes a container image of an OCI layout to the new file `out`, as an instance image. `options`, `monitor` and
// `written` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_written_free`. Threads: any. Errors: as `lxi_store_import_layout`
// and `lxi_pack`; LXI_UNSUPPORTED for an image of LXD or Incus, which needs no conversion.
lxi_status lxi_layout_write(struct lxi_str path,
                            const struct lxi_layout_options *options,
                            struct lxi_str out,
                            const struct lxi_monitor *monitor,
                            struct lxi_written **written,
                            struct lxi_error **error);

// Writes images of a store with their aliases and the statements about them to a bundle: an OCI layout that is a new
// tar, or a new directory if `path` ends in a slash. The same images give the same bytes. What a bundle can't hold is
// an omission of `monitor`, which may be NULL.
//
// Threads: any. Errors: LXI_ALREADY_EXISTS; LXI_NOT_FOUND for an image that is not there; LXI_INVALID_INPUT without an
// image; LXI_MISMATCH where the bytes in the store are damaged; LXI_CANCELLED; LXI_IO. Nothing is left then.
lxi_status lxi_bundle_create(const struct lxi_store *store,
                             const struct lxi_fingerprint *fingerprints,
                             size_t fingerprints_len,
                             struct lxi_str path,
                             const struct lxi_monitor *monitor,
                             struct lxi_error **error);

// Imports all images of a bundle, or of any OCI layout, with their names as aliases and the statements about them. An
// image that is in the store already gets the aliases. What can't be taken is an omission of the monitor. `options`
// and `images` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_image_list_free`. Threads: any. Errors: those of
// `lxi_store_import_layout`; LXI_NOT_FOUND for a layout without an image. Images that were imported before stay.
lxi_status lxi_bundle_import(const struct lxi_store *store,
                             struct lxi_str path,
                             const struct lxi_bundle_options *options,
                             struct lxi_image_list **images,
                             struct lxi_error **error);

/* ==== Settings and remotes ==== */

// The settings of a user: remotes by name and a client certificate, in one directory that any number of processes may
// use and change, and any number of threads by one handle.
typedef struct lxi_settings lxi_settings;

// Remotes with their names. Read-only, so it may be shared between threads.
typedef struct lxi_remote_list lxi_remote_list;

// A server of images: how it is spoken to. Set `size` to `sizeof(lxi_known_remote)`, also before it is filled.
typedef struct lxi_known_remote {
    // The size of this structure in bytes.
    size_t size;
    // LXI_REMOTE_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // Its URL, such as `https://host:8443`; without a scheme it is https, and has LXD's port. A simplestreams server
    // may be a directory: `file:///DIR`. Filled without secrets.
    struct lxi_str url;
    // `lxd`, `incus`, `simplestreams` or `oci`, a registry; for `lxi_remote_connect` also `direct`, the URL of one
    // image. Empty for `lxd`.
    struct lxi_str protocol;
    // The certificate that it must show, in PEM, where no known authority signed it; or empty.
    struct lxi_str certificate;
    // The user of a registry, with `password_file`; or empty.
    struct lxi_str username;
    // The file that holds the password of that user, and is read when it is needed; or empty.
    struct lxi_str password_file;
    // The file of docker or podman that holds the credentials for a registry; empty for those of this user.
    struct lxi_str auth_file;
} lxi_known_remote;

// Only public images are used: the client certificate is not shown, and a registry is asked anonymously. Simplestreams
// servers always are.
#define LXI_REMOTE_PUBLIC 1

// Plain HTTP may be spoken with it, although it is another machine.
#define LXI_REMOTE_ALLOW_HTTP 2

// What is known of a server before it is trusted: LXI_TRUST_….
typedef uint32_t lxi_trust;

// It is spoken to without TLS, because it is this machine or because that was allowed.
#define LXI_TRUST_PLAIN 1

// A known authority signed its certificate, or it is the pinned one.
#define LXI_TRUST_VOUCHED 2

// No authority signed its certificate. A person must compare its fingerprint with what the server's owner says.
#define LXI_TRUST_UNKNOWN 3

// Opens the settings in a directory, which is made when something is written. Empty is the directory of this user:
// `LXD_IMAGE_CONFIG`, else `lxd-image` in the XDG configuration directory. Nothing is read yet.
//
// Owner: the caller, who frees them with `lxi_settings_free`. Threads: any. Errors: LXI_INVALID_INPUT, also where the
// environment names no directory.
lxi_status lxi_settings_open(struct lxi_str directory, struct lxi_settings **settings, struct lxi_error **error);

// Frees settings; NULL is allowed. The files stay.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_settings_free(struct lxi_settings *settings);

// All remotes, sorted by name. Without a file these are the well-known public servers.
//
// Owner: the caller, who frees the list with `lxi_remote_list_free`. Threads: any. Errors: LXI_MALFORMED when the file
// can't be parsed, LXI_IO.
lxi_status lxi_settings_remotes(const struct lxi_settings *settings,
                                struct lxi_remote_list **remotes,
                                struct lxi_error **error);

// How many remotes there are.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_remote_list_len(const struct lxi_remote_list *remotes, size_t *len, struct lxi_error **error);

// Fills `remote` with the remote with an index from 0, and `name` with its name.
//
// Owner: the texts belong to the list. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_remote_list_at(const struct lxi_remote_list *remotes,
                              size_t index,
                              struct lxi_str *name,
                              struct lxi_known_remote *remote,
                              struct lxi_error **error);

// Frees a list; NULL is allowed.
//
// Threads: any, the list being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_remote_list_free(struct lxi_remote_list *remotes);

// Adds a remote. Nothing is asked of the server: `lxi_remote_first_use` says whether it can be trusted.
//
// Threads: any. Errors: LXI_ALREADY_EXISTS; LXI_INVALID_INPUT for a name with a colon, a slash or a blank, for
// `local`, and for an invalid URL; LXI_UNSUPPORTED for an unknown protocol; LXI_MALFORMED for a certificate that is
// not PEM; LXI_IO.
lxi_status lxi_settings_add(const struct lxi_settings *settings,
                            struct lxi_str name,
                            const struct lxi_known_remote *remote,
                            struct lxi_error **error);

// Removes a remote. Images that came from there stay, and keep their source.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_MALFORMED, LXI_IO.
lxi_status lxi_settings_remove(const struct lxi_settings *settings, struct lxi_str name, struct lxi_error **error);

// Gives a remote another name.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_ALREADY_EXISTS, LXI_INVALID_INPUT, LXI_MALFORMED, LXI_IO.
lxi_status lxi_settings_rename(const struct lxi_settings *settings,
                               struct lxi_str name,
                               struct lxi_str new_name,
                               struct lxi_error **error);

// Changes the URL of a remote. A pinned certificate stays pinned.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_INVALID_INPUT for an invalid URL, LXI_MALFORMED, LXI_IO.
lxi_status lxi_settings_set_url(const struct lxi_settings *settings,
                                struct lxi_str name,
                                struct lxi_str url,
                                struct lxi_error **error);

// The client certificate of these settings in PEM, which the owner of a server adds to the trusted ones. Made, with
// its key, if there is none yet; the key never leaves the directory.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_MALFORMED when the files
// can't be parsed, LXI_IO.
lxi_status lxi_settings_certificate(const struct lxi_settings *settings,
                                    struct lxi_buffer **pem,
                                    struct lxi_error **error);

// Asks a server for its certificate, and says whether it can be trusted: trust on first use, as `lxc remote add` has
// it. With LXI_TRUST_UNKNOWN, `pem` gets the certificate, to be shown (`fingerprint`, which may be NULL) and pinned if
// its owner confirms it; else it stays NULL. `options` and `monitor` may be NULL.
//
// Owner: the caller, who frees the buffer with `lxi_buffer_free`. Threads: any. Errors: LXI_REMOTE when it can't be
// reached, or shows another certificate than the pinned one; LXI_INVALID_INPUT for plain HTTP that is not allowed.
lxi_status lxi_remote_first_use(const struct lxi_known_remote *remote,
                                const struct lxi_client_options *options,
                                const struct lxi_monitor *monitor,
                                lxi_trust *trust,
                                struct lxi_buffer **pem,
                                struct lxi_fingerprint *fingerprint,
                                struct lxi_error **error);

// A server of images, or a static tree. Nothing that it says is believed: images are checked when they arrive. Any
// number of threads may use one handle; connections are kept and shared.
typedef struct lxi_remote lxi_remote;

// How a server is spoken to. NULL, or all but `size` zero: TLS only, the proxy of the environment, the authorities of
// the system.
typedef struct lxi_client_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_CLIENT_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // The limits on answers, or NULL: `redirects`, `headers`, `idle`, `total`, `remote_index`, `download`.
    const struct lxi_limits *limits;
    // The proxy for all hosts but this one, such as `socks5://host:1080`; empty for that of the environment.
    struct lxi_str proxy;
    // The `User-Agent`; empty for this library's.
    struct lxi_str user_agent;
    // A client certificate in PEM, or empty. Settings have one of their own.
    struct lxi_str certificate;
    // Its key in PEM.
    struct lxi_str key;
    // The secret of a private image on an LXD or Incus server, or empty. Elsewhere it is LXI_INVALID_INPUT.
    struct lxi_str secret;
    // The user of a registry, with `password`; empty for what the remote says. Elsewhere both are LXI_INVALID_INPUT.
    struct lxi_str username;
    // The password of that user. It is never part of an error.
    struct lxi_str password;
} lxi_client_options;

// Plain HTTP may be spoken with other machines.
#define LXI_CLIENT_ALLOW_HTTP 1

// Redirects of another host may lead to this machine and its local network.
#define LXI_CLIENT_ALLOW_LOCAL 2

// No proxy, whatever the environment says.
#define LXI_CLIENT_NO_PROXY 4

// Which image a reference means. NULL, or all but `size` zero: a container's, for this machine.
typedef struct lxi_wanted {
    // The size of this structure in bytes.
    size_t size;
    // LXI_WANTED_….
    uint32_t flags;
    // The type that an alias must have: LXI_TYPE_…, or 0 for containers.
    lxi_image_type image_type;
    // The machines that an alias may mean, best first, by any of their names; none for this one.
    const struct lxi_str *architectures;
    // How many.
    size_t architectures_len;
} lxi_wanted;

// An alias for any machine will do.
#define LXI_WANTED_ANY_ARCHITECTURE 1

// The hint of LXI_NOT_FOUND names no similar aliases, which may cost a request for the whole list.
#define LXI_WANTED_NO_SUGGESTIONS 2

// How an image is sent to a server. NULL, or all but `size` zero: private, without an alias.
typedef struct lxi_upload_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_UPLOAD_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // Aliases that it gets on the server.
    const struct lxi_alias *aliases;
    // How many.
    size_t aliases_len;
    // Properties that win over those of the store.
    const struct lxi_pair *properties;
    // How many.
    size_t properties_len;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_upload_options;

// It also gets the aliases that it has in the store.
#define LXI_UPLOAD_COPY_ALIASES 1

// Aliases that are taken on the server move to it, instead of being an error.
#define LXI_UPLOAD_REUSE_ALIASES 2

// An image that loses its last alias to it is deleted on the server.
#define LXI_UPLOAD_REPLACE_IMAGES 4

// Clients that have not authenticated may read it there.
#define LXI_UPLOAD_PUBLIC 8

// Connects to a server by its address. Nothing is sent yet. `options` may be NULL.
//
// Owner: the caller, who frees it with `lxi_remote_free`. Threads: any. Errors: LXI_INVALID_INPUT for an invalid URL,
// and for plain HTTP that is not allowed; LXI_UNSUPPORTED for an unknown protocol; LXI_MALFORMED for a certificate
// that is not PEM.
lxi_status lxi_remote_connect(const struct lxi_known_remote *address,
                              const struct lxi_client_options *options,
                              struct lxi_remote **remote,
                              struct lxi_error **error);

// Connects to the remote with this name in the settings, with the client certificate of the settings unless it is
// public. Nothing is sent yet. `options` may be NULL.
//
// Owner: the caller, who frees it with `lxi_remote_free`; it may outlive the settings. Threads: any. Errors:
// LXI_NOT_FOUND, whose hint names what is near; LXI_MALFORMED; LXI_IO.
lxi_status lxi_settings_connect(const struct lxi_settings *settings,
                                struct lxi_str name,
                                const struct lxi_client_options *options,
                                struct lxi_remote **remote,
                                struct lxi_error **error);

// Frees a remote; NULL is allowed.
//
// Threads: any, the remote being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_remote_free(struct lxi_remote *remote);

// The image that `reference` names there now: an alias, a fingerprint, or the first digits of one. What the server
// does not say stays empty. `wanted` and `monitor` may be NULL.
//
// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND, whose hint names
// other machines or similar aliases; LXI_AMBIGUOUS; LXI_UNSUPPORTED for an image whose fingerprint is known only after
// its download; LXI_UNTRUSTED for a list that no key of the remote signed, or an older one; LXI_REMOTE; LXI_MALFORMED;
// LXI_LIMIT_EXCEEDED; LXI_CANCELLED.
lxi_status lxi_remote_resolve(const struct lxi_remote *remote,
                              struct lxi_str reference,
                              const struct lxi_wanted *wanted,
                              const struct lxi_monitor *monitor,
                              struct lxi_stored_image **image,
                              struct lxi_error **error);

// The images there that this client may see and that meet all filters. Entries that can't be used are omissions of
// `monitor`, which may be NULL.
//
// Owner: the caller, who frees the cursor with `lxi_image_cursor_free`; it may outlive the remote. Threads: any.
// Errors: LXI_INVALID_INPUT for a filter that is none; LXI_UNSUPPORTED where there is no list; LXI_UNTRUSTED as for
// `lxi_remote_resolve`; LXI_REMOTE; LXI_MALFORMED; LXI_LIMIT_EXCEEDED; LXI_CANCELLED.
lxi_status lxi_remote_images(const struct lxi_remote *remote,
                             const struct lxi_str *filters,
                             size_t filters_len,
                             const struct lxi_monitor *monitor,
                             struct lxi_image_cursor **cursor,
                             struct lxi_error **error);

// Sends an image of a store, with its properties, to an LXD or Incus server, which must trust this client. An image
// that the server has already gets what `options` say, and its bytes are not sent. Statements about it go along to a
// server of this library; elsewhere that they stay behind is an omission of the monitor. `options` may be NULL.
//
// Threads: any. Errors: LXI_UNSUPPORTED for a remote that is no such server; LXI_NOT_FOUND for an image that is not in
// the store; LXI_ALREADY_EXISTS for an alias that is taken; LXI_MISMATCH when other bytes arrived; LXI_REMOTE, also
// when it does not trust this client; LXI_CANCELLED.
lxi_status lxi_remote_upload(const struct lxi_remote *remote,
                             const struct lxi_store *store,
                             const struct lxi_fingerprint *fingerprint,
                             const struct lxi_upload_options *options,
                             struct lxi_error **error);

// How an image is copied from a remote. NULL, or all but `size` zero: a private copy of a container's image for this
// machine, without an alias, that is not refreshed.
typedef struct lxi_copy_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_COPY_….
    uint32_t flags;
    // The type that an alias must have: LXI_TYPE_…, or 0 for containers.
    lxi_image_type image_type;
    // Aliases that the copy gets.
    const struct lxi_alias *aliases;
    // How many.
    size_t aliases_len;
    // Properties that win over those of the image and of the remote.
    const struct lxi_pair *properties;
    // How many.
    size_t properties_len;
    // The machines that an alias may mean, best first, by any of their names; none for this one.
    const struct lxi_str *architectures;
    // How many.
    size_t architectures_len;
    // The fingerprint that it must have, whatever the server says; or NULL.
    const struct lxi_fingerprint *expected_fingerprint;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_copy_options;

// The copy also gets the aliases that it has on the remote.
#define LXI_COPY_COPY_ALIASES 1

// Aliases that are taken move to the copy, instead of being an error.
#define LXI_COPY_REUSE_ALIASES 2

// An image that loses its last alias to the copy is deleted, unless it is to be kept.
#define LXI_COPY_REPLACE_IMAGES 4

// The copy follows its source when it is refreshed. It must be named by an alias then.
#define LXI_COPY_AUTO_UPDATE 8

// Clients that have not authenticated may read it.
#define LXI_COPY_PUBLIC 16

// An image may be copied although nothing names its fingerprint before the download: the server decides what its bytes
// are.
#define LXI_COPY_TRUST_TRANSPORT 32

// How images are refreshed. NULL, or all but `size` zero: newer ones are fetched and take the place of the old ones.
typedef struct lxi_refresh_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_REFRESH_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // How servers are spoken to that have no name in the settings, or NULL.
    const struct lxi_client_options *client;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_refresh_options;

// Replaces nothing, and tells what would be replaced.
#define LXI_REFRESH_DRY_RUN 1

// What became of an image that was refreshed: LXI_REFRESHED_….
typedef uint32_t lxi_refreshed;

// A value that this version of the list does not know.
#define LXI_REFRESHED_OTHER 0

// It follows no source, and was not changed.
#define LXI_REFRESHED_NOT_FOLLOWING 1

// It is the newest of its source.
#define LXI_REFRESHED_CURRENT 2

// A newer image took its place, or would.
#define LXI_REFRESHED_REPLACED 3

// It could not be refreshed; `lxi_refresh_report_error_at` says why. It is as it was.
#define LXI_REFRESHED_FAILED 4

// What a refresh did, image by image. Read-only, so it may be shared between threads.
typedef struct lxi_refresh_report lxi_refresh_report;

// Copies the image that `reference` names on a remote into the store. One that is there already gets what `options` say,
// and nothing is downloaded; a cached image becomes one that stays. `options` and `image` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: those of
// `lxi_remote_resolve` and of `lxi_store_import`, above all LXI_MISMATCH when the bytes are not those of the fingerprint
// that was named; LXI_ALREADY_EXISTS for an alias that is taken; LXI_INVALID_INPUT for an image that is to follow its
// source and is named by a fingerprint. The store is as it was.
lxi_status lxi_store_copy_from(const struct lxi_store *store,
                               const struct lxi_remote *remote,
                               struct lxi_str reference,
                               const struct lxi_copy_options *options,
                               struct lxi_stored_image **image,
                               struct lxi_error **error);

// The image that `reference` names on a remote: from the store if it is there, else downloaded, and cached until it is
// unused for long enough (`lxi_store_prune`). Marks it as used. Options about aliases are refused, as a cached image has
// none. If the server can't be reached, the image that the alias meant last is given, if that is here. `options` may be
// NULL.
//
// Owner: the caller, who frees the result with `lxi_stored_image_free`. Threads: any. Errors: as `lxi_store_copy_from`.
lxi_status lxi_store_get_or_fetch(const struct lxi_store *store,
                                  const struct lxi_remote *remote,
                                  struct lxi_str reference,
                                  const struct lxi_copy_options *options,
                                  struct lxi_stored_image **image,
                                  struct lxi_error **error);

// Replaces images by the newest of their sources: those named, or with `fingerprints_len` 0 all that follow one. A source
// with a name in `settings`, which may be NULL, is spoken to as they say. One image that fails does not stop the others:
// its outcome is LXI_REFRESHED_FAILED. `options` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_refresh_report_free`. Threads: any. Errors: LXI_MALFORMED when the
// catalog is damaged, LXI_CANCELLED, LXI_IO.
lxi_status lxi_store_refresh(const struct lxi_store *store,
                             const struct lxi_settings *settings,
                             const struct lxi_fingerprint *fingerprints,
                             size_t fingerprints_len,
                             const struct lxi_refresh_options *options,
                             struct lxi_refresh_report **report,
                             struct lxi_error **error);

// How many images a report is about.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_refresh_report_len(const struct lxi_refresh_report *report, size_t *len, struct lxi_error **error);

// What became of the image with an index from 0: its fingerprint, the outcome, and the newest image of its source, which
// is the same one where it is current, and zero where it is not known. `newest` may be NULL.
//
// Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_refresh_report_at(const struct lxi_refresh_report *report,
                                 size_t index,
                                 struct lxi_fingerprint *image,
                                 lxi_refreshed *outcome,
                                 struct lxi_fingerprint *newest,
                                 struct lxi_error **error);

// Fills `info` with why the image with an index from 0 could not be refreshed.
//
// Owner: the texts belong to the report. Threads: any. Errors: LXI_NOT_FOUND for an index past the end, and for an image
// that did not fail.
lxi_status lxi_refresh_report_error_at(const struct lxi_refresh_report *report,
                                       size_t index,
                                       struct lxi_error_info *info,
                                       struct lxi_error **error);

// Frees a report; NULL is allowed.
//
// Threads: any, the report being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_refresh_report_free(struct lxi_refresh_report *report);

/* ==== Registries ==== */

// How an image is pushed to a registry. NULL, or all but `size` zero: under the tag of the reference, which must be
// free or mean the same image.
typedef struct lxi_push_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_PUSH_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // More tags.
    const struct lxi_str *tags;
    // How many.
    size_t tags_len;
    // A repository of the same registry that may have the files already, so that they need not be sent; or empty.
    struct lxi_str mount_from;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_push_options;

// The image's aliases in the store become tags, too. One that registries don't take is an omission.
#define LXI_PUSH_ALIAS_TAGS 1

// Tags that mean another image for the same machine move, instead of being an error.
#define LXI_PUSH_REUSE_TAGS 2

// Pushes an image of a store to a registry, as an artifact that `lxi_store_copy_from` fetches again, with the
// statements about it. `reference` is `REPOSITORY[:TAG]`. Files that the registry has are not sent again. `options`
// and `digest`, which gets that of the image's manifest, may be NULL.
//
// Owner: the caller, who frees the digest with `lxi_buffer_free`. Threads: any. Errors: LXI_UNSUPPORTED for a remote
// that is no registry; LXI_INVALID_INPUT for a reference by digest, and a tag that is none; LXI_ALREADY_EXISTS for a
// tag that means another image; LXI_NOT_FOUND for an image that is not in the store; LXI_MISMATCH; LXI_REMOTE;
// LXI_CANCELLED.
lxi_status lxi_remote_push(const struct lxi_remote *remote,
                           const struct lxi_store *store,
                           const struct lxi_fingerprint *fingerprint,
                           struct lxi_str reference,
                           const struct lxi_push_options *options,
                           struct lxi_buffer **digest,
                           struct lxi_error **error);

// The tags of a repository of a registry, or with an empty `repository` the names of all repositories, sorted. Many
// registries don't list the latter. `monitor` may be NULL.
//
// Owner: the caller, who frees the list with `lxi_names_free`. Threads: any. Errors: LXI_UNSUPPORTED for a remote that
// is no registry; LXI_NOT_FOUND; LXI_REMOTE; LXI_MALFORMED; LXI_LIMIT_EXCEEDED; LXI_CANCELLED.
lxi_status lxi_remote_tags(const struct lxi_remote *remote,
                           struct lxi_str repository,
                           const struct lxi_monitor *monitor,
                           struct lxi_names **names,
                           struct lxi_error **error);

// One repository of a registry as a remote whose images can be listed and mirrored: `lxi_remote_images`,
// `lxi_mirror_to_store`.
//
// Owner: the caller, who frees it with `lxi_remote_free`; it may outlive the registry. Threads: any. Errors:
// LXI_UNSUPPORTED for a remote that is no registry; LXI_INVALID_INPUT for a name that is none.
lxi_status lxi_remote_repository(const struct lxi_remote *remote,
                                 struct lxi_str repository,
                                 struct lxi_remote **within,
                                 struct lxi_error **error);

/* ==== Static trees and mirrors ==== */

// A directory in simplestreams layout. Any number of processes may read it, one at a time writes it, and any number of
// threads may use one handle.
typedef struct lxi_tree lxi_tree;

// What a tree listed. Read-only, so it may be shared between threads.
typedef struct lxi_tree_listing lxi_tree_listing;

// What a verification of a tree found. Read-only, so it may be shared between threads.
typedef struct lxi_tree_report lxi_tree_report;

// How a tree is opened. NULL, or all but `size` zero: one that is there, with the default limits.
typedef struct lxi_tree_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_TREE_….
    uint32_t flags;
    // How many threads verify an image that is added, at most; 0 for all cores.
    uint32_t threads;
    // The limits on lists and on images that are added, or NULL.
    const struct lxi_limits *limits;
    // Where the time comes from; NULL for the machine's clock. Used until the tree is freed.
    lxi_clock_fn clock;
    // Handed to `clock`.
    void *clock_user;
} lxi_tree_options;

// A tree that is not there is made.
#define LXI_TREE_CREATE 1

// How an image is added to a tree. NULL, or all but `size` zero: described by its own metadata, with the alias
// `OS/RELEASE/VARIANT`.
typedef struct lxi_tree_add_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_TREE_ADD_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // More aliases. They belong to the product and mean its newest version.
    const struct lxi_str *aliases;
    // How many.
    size_t aliases_len;
    // Properties that win over the image's own. A list needs `os` and `release`.
    const struct lxi_pair *properties;
    // How many.
    size_t properties_len;
    // The fingerprint that it must have, or NULL.
    const struct lxi_fingerprint *expected_fingerprint;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_tree_add_options;

// The product does not get the alias `OS/RELEASE/VARIANT`.
#define LXI_TREE_ADD_NO_DEFAULT_ALIAS 1

// An image of a tree; filled by `lxi_tree_listing_at`. Set `size` to `sizeof(lxi_tree_image)` before.
typedef struct lxi_tree_image {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The digest of its bytes.
    struct lxi_fingerprint fingerprint;
    // Container or virtual machine.
    lxi_image_type image_type;
    // One file or two.
    lxi_form form;
    // The kernel's name of the machine that it is for: `x86_64`.
    struct lxi_str architecture;
    // The key of its product: `OS:RELEASE:VARIANT:ARCHITECTURE`.
    struct lxi_str product;
    // The key of its version, a date.
    struct lxi_str version;
    // The size of all its files in bytes.
    uint64_t bytes;
    // The date of its version, in seconds since 1970.
    int64_t created_at;
    // When its support ends; 0 where that is not said.
    int64_t expires_at;
    // How many properties it has: `lxi_tree_listing_property_at`.
    size_t properties;
    // How many aliases its product has: `lxi_tree_listing_alias_at`.
    size_t aliases;
} lxi_tree_image;

// How a tree is pruned. NULL, or all but `size` zero: all versions stay, and files that left the list an hour ago go.
typedef struct lxi_tree_prune_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_TREE_PRUNE_….
    uint32_t flags;
    // How many versions of each product stay; 0 for all.
    uint32_t keep;
    // With LXI_TREE_PRUNE_AFTER: for how long files stay that left the list, since readers may hold an older one.
    uint64_t after_seconds;
    // Cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_tree_prune_options;

// Removes nothing, and tells what would be removed.
#define LXI_TREE_PRUNE_DRY_RUN 1

// `after_seconds` is said.
#define LXI_TREE_PRUNE_AFTER 2

// What a pruning removed, or would remove; filled by `lxi_tree_prune`. Set `size` to `sizeof(lxi_tree_pruned)` before.
typedef struct lxi_tree_pruned {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // Versions that left the list.
    uint64_t versions;
    // Files that were removed.
    uint64_t files;
    // Their size in bytes.
    uint64_t bytes;
    // Files that no list names, and that stay for now.
    uint64_t waiting;
} lxi_tree_pruned;

// What a verification found; filled by `lxi_tree_report_get`. Set `size` to `sizeof(lxi_tree_report_info)` before.
typedef struct lxi_tree_report_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // Images in the list.
    uint64_t images;
    // Files that the list names.
    uint64_t files;
    // Bytes that were read.
    uint64_t bytes;
    // How many things are wrong: `lxi_tree_report_finding_at`.
    size_t findings;
} lxi_tree_report_info;

// Opens the tree in a directory. `options` may be NULL.
//
// Owner: the caller, who frees it with `lxi_tree_free`. Threads: any. Errors: LXI_NOT_FOUND when there is none and
// none is to be made; LXI_MALFORMED and LXI_LIMIT_EXCEEDED for a list that can't be read; LXI_BUSY while another
// process makes it; LXI_IO.
lxi_status lxi_tree_open(struct lxi_str path,
                         const struct lxi_tree_options *options,
                         struct lxi_tree **tree,
                         struct lxi_error **error);

// Frees a tree; NULL is allowed. What is on the disk stays.
//
// Threads: any, the tree being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_tree_free(struct lxi_tree *tree);

// Verifies an image, one file with `second` NULL, or metadata and rootfs in either order, stores its files under their
// digests, and lists it. `options` and `fingerprint` may be NULL.
//
// Threads: any. Errors: LXI_ALREADY_EXISTS when it is listed; LXI_INVALID_INPUT without `os` or `release`, and for an
// alias that a list can't hold; LXI_MISMATCH; those of verifying an image; LXI_BUSY while another process writes;
// LXI_CANCELLED; LXI_IO. Nothing of it is listed then.
lxi_status lxi_tree_add(const struct lxi_tree *tree,
                        const struct lxi_input *first,
                        const struct lxi_input *second,
                        const struct lxi_tree_add_options *options,
                        struct lxi_fingerprint *fingerprint,
                        struct lxi_error **error);

// Takes images out of the list, all or none. Their files stay until `lxi_tree_prune` removes them.
//
// Threads: any. Errors: LXI_NOT_FOUND if one of them is not listed; LXI_BUSY; LXI_IO.
lxi_status lxi_tree_remove(const struct lxi_tree *tree,
                           const struct lxi_fingerprint *fingerprints,
                           size_t fingerprints_len,
                           struct lxi_error **error);

// Takes old versions out of the list, and removes files that left it long enough ago. `options` and `pruned` may be
// NULL.
//
// Threads: any. Errors: LXI_BUSY, LXI_MALFORMED, LXI_CANCELLED, LXI_IO. What was removed before stays so.
lxi_status lxi_tree_prune(const struct lxi_tree *tree,
                          const struct lxi_tree_prune_options *options,
                          struct lxi_tree_pruned *pruned,
                          struct lxi_error **error);

// The images of a tree as it is now, newest first.
//
// Owner: the caller, who frees the listing with `lxi_tree_listing_free`. Threads: any. Errors: LXI_MALFORMED and
// LXI_LIMIT_EXCEEDED for a list that can't be read; LXI_IO.
lxi_status lxi_tree_list(const struct lxi_tree *tree, struct lxi_tree_listing **listing, struct lxi_error **error);

// Fills `image` with the image with an index from 0.
//
// Owner: the texts belong to the listing. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_tree_listing_at(const struct lxi_tree_listing *listing,
                               size_t index,
                               struct lxi_tree_image *image,
                               struct lxi_error **error);

// A property of an image of a listing, both with an index from 0.
//
// Owner: the texts belong to the listing. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_tree_listing_property_at(const struct lxi_tree_listing *listing,
                                        size_t image,
                                        size_t index,
                                        struct lxi_str *key,
                                        struct lxi_str *value,
                                        struct lxi_error **error);

// An alias of the product of an image of a listing, both with an index from 0.
//
// Owner: the text belongs to the listing. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_tree_listing_alias_at(const struct lxi_tree_listing *listing,
                                     size_t image,
                                     size_t index,
                                     struct lxi_str *alias,
                                     struct lxi_error **error);

// Frees a listing; NULL is allowed.
//
// Threads: any, the listing being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_tree_listing_free(struct lxi_tree_listing *listing);

// Reads every file that the list names, and computes every fingerprint. `monitor` may be NULL; files without a digest
// are its omissions.
//
// Owner: the caller, who frees the result with `lxi_tree_report_free`. Threads: any. Errors: LXI_MALFORMED when index
// or list can't be read, LXI_CANCELLED, LXI_IO. What is wrong with a file is no error but a finding.
lxi_status lxi_tree_verify(const struct lxi_tree *tree,
                           const struct lxi_monitor *monitor,
                           struct lxi_tree_report **report,
                           struct lxi_error **error);

// Fills `info` with what a verification found.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_tree_report_get(const struct lxi_tree_report *report,
                               struct lxi_tree_report_info *info,
                               struct lxi_error **error);

// Fills `finding` with something that is wrong, with an index from 0.
//
// Owner: the texts belong to the report. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_tree_report_finding_at(const struct lxi_tree_report *report,
                                      size_t index,
                                      struct lxi_error_info *finding,
                                      struct lxi_error **error);

// Frees a report; NULL is allowed.
//
// Threads: any, the report being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_tree_report_free(struct lxi_tree_report *report);

// Which images are mirrored. NULL, or all but `size` zero: all, and nothing is deleted.
typedef struct lxi_mirror_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_MIRROR_….
    uint32_t flags;
    // Padding; must be 0.
    uint32_t reserved;
    // Conditions that an image must meet, as `lxi_store_list` takes them.
    const struct lxi_str *filters;
    // How many.
    size_t filters_len;
    // Progress, cancellation and omissions of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_mirror_options;

// Images that meet the filters and are gone on the remote are deleted; in a store only those that a mirror brought from
// there. A remote that lists nothing deletes nothing.
#define LXI_MIRROR_DELETE 1

// What a mirror did. Read-only, so it may be shared between threads.
typedef struct lxi_mirrored lxi_mirrored;

// What a mirror did; filled by `lxi_mirrored_get`. Set `size` to `sizeof(lxi_mirrored_info)` before.
typedef struct lxi_mirrored_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // Images that were copied: `lxi_mirrored_copied_at`.
    size_t copied;
    // Images that were there already.
    size_t kept;
    // Images that were deleted: `lxi_mirrored_removed_at`.
    size_t removed;
    // Images that could not be copied because of themselves: `lxi_mirrored_failed_at`. The next run tries them again.
    size_t failed;
} lxi_mirrored_info;

// Makes a store equal to a remote: copies what is missing, newest first. An image that can't be copied does not stop the
// others. An interrupted run is continued by the next one. `options` may be NULL.
//
// Owner: the caller, who frees the result with `lxi_mirrored_free`. Threads: any. Errors: LXI_INVALID_INPUT for a filter
// that is none; LXI_UNTRUSTED as for `lxi_remote_resolve`; LXI_REMOTE when the server can't be reached any more, or lists
// nothing while what is gone is to be deleted; LXI_CANCELLED; LXI_STORAGE_FULL; LXI_IO. What was copied before stays.
lxi_status lxi_mirror_to_store(const struct lxi_remote *remote,
                               const struct lxi_store *store,
                               const struct lxi_mirror_options *options,
                               struct lxi_mirrored **mirrored,
                               struct lxi_error **error);

// Makes a static tree equal to a remote, with the products, versions and aliases of a simplestreams server. As
// `lxi_mirror_to_store` in all else.
//
// Owner: the caller, who frees the result with `lxi_mirrored_free`. Threads: any. Errors: as `lxi_mirror_to_store`;
// LXI_BUSY while another process writes into the tree.
lxi_status lxi_mirror_to_tree(const struct lxi_remote *remote,
                              const struct lxi_tree *tree,
                              const struct lxi_mirror_options *options,
                              struct lxi_mirrored **mirrored,
                              struct lxi_error **error);

// Fills `info` with what a mirror did.
//
// Threads: any. Errors: LXI_INVALID_INPUT.
lxi_status lxi_mirrored_get(const struct lxi_mirrored *mirrored,
                            struct lxi_mirrored_info *info,
                            struct lxi_error **error);

// An image that was copied, with an index from 0, as the remote described it.
//
// Owner: the caller, who frees it with `lxi_stored_image_free`. Threads: any. Errors: LXI_NOT_FOUND past the last one.
lxi_status lxi_mirrored_copied_at(const struct lxi_mirrored *mirrored,
                                  size_t index,
                                  struct lxi_stored_image **image,
                                  struct lxi_error **error);

// The fingerprint of an image that was deleted, with an index from 0.
//
// Threads: any. Errors: LXI_NOT_FOUND past the last one.
lxi_status lxi_mirrored_removed_at(const struct lxi_mirrored *mirrored,
                                   size_t index,
                                   struct lxi_fingerprint *fingerprint,
                                   struct lxi_error **error);

// The fingerprint of an image that could not be copied, with an index from 0; fills `info` with why.
//
// Owner: the texts belong to `mirrored`. Threads: any. Errors: LXI_NOT_FOUND past the last one.
lxi_status lxi_mirrored_failed_at(const struct lxi_mirrored *mirrored,
                                  size_t index,
                                  struct lxi_fingerprint *fingerprint,
                                  struct lxi_error_info *info,
                                  struct lxi_error **error);

// Frees the result of a mirror; NULL is allowed.
//
// Threads: any, the handle being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_mirrored_free(struct lxi_mirrored *mirrored);

/* ==== Deltas ==== */

// How a delta is made. NULL, or all but `size` zero: as small as it gets, with all cores.
typedef struct lxi_delta_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_DELTA_….
    uint32_t flags;
    // With LXI_DELTA_LEVEL: how hard to compress, from 1 (fast) to 9 (small); 0 does not compress.
    uint32_t level;
    // How many threads work; 0 for all cores. The delta is the same for every number; each needs up to 700 MiB.
    uint32_t threads;
    // Padding; must be 0.
    uint32_t reserved;
    // How many bytes the index of the old file may take; 0 for 256 MiB. The delta depends on it.
    uint64_t index_memory;
    // Progress and cancellation of the call, or NULL.
    const struct lxi_monitor *monitor;
} lxi_delta_options;

// `level` is said.
#define LXI_DELTA_LEVEL 1

// What a delta was made of, or what it made. Set `size` to `sizeof(lxi_delta_info)` before.
typedef struct lxi_delta_info {
    // The size of this structure in bytes, set by the caller.
    size_t size;
    // The size of the delta in bytes.
    uint64_t delta_bytes;
    // The size of the new file in bytes.
    uint64_t new_bytes;
    // How many bytes of the new file are copied from the old one.
    uint64_t copied_bytes;
    // How many windows the delta has.
    uint64_t windows;
    // Whether each window has a checksum. Without them only a digest shows that the old file was the right one.
    bool has_checksums;
} lxi_delta_info;

// Writes the delta that makes the file `new_file` out of `old_file` to `out`, in the format of xdelta3. `out` gets its
// name when it is complete. `options` and `info` may be NULL.
//
// Threads: any. Errors: LXI_NOT_FOUND for a file that is not there, LXI_ALREADY_EXISTS for an output that is,
// LXI_CANCELLED, LXI_STORAGE_FULL, LXI_IO.
lxi_status lxi_delta_make(struct lxi_str old_file,
                          struct lxi_str new_file,
                          struct lxi_str out,
                          const struct lxi_delta_options *options,
                          struct lxi_delta_info *info,
                          struct lxi_error **error);

// Applies the delta in the file `delta` to `old_file` and writes the new version to `out`, which gets its name when it is
// complete and, with `expected_sha256`, which may be NULL, has that digest. A delta is as hostile as any input: compare
// the digest. `limits`, `monitor` and `info` may be NULL.
//
// Threads: any. Errors: LXI_NOT_FOUND, LXI_ALREADY_EXISTS; LXI_MALFORMED for a broken delta; LXI_MISMATCH where `old_file`
// is not the one that it was made from, and for another digest; LXI_UNSUPPORTED; LXI_LIMIT_EXCEEDED; LXI_CANCELLED;
// LXI_STORAGE_FULL; LXI_IO. There is no output then.
lxi_status lxi_delta_apply(struct lxi_str old_file,
                           struct lxi_str delta,
                           struct lxi_str out,
                           const struct lxi_fingerprint *expected_sha256,
                           const struct lxi_limits *limits,
                           const struct lxi_monitor *monitor,
                           struct lxi_delta_info *info,
                           struct lxi_error **error);

/* ==== Servers ==== */

// A server that runs on threads of its own until it is stopped.
typedef struct lxi_server lxi_server;

// Takes one line of the server's log, without its end: a request that was answered, or a note. Called from one thread
// at a time, which is not the caller's, until the server is stopped. A call that takes long loses later lines, and
// delays no request. Must not unwind or jump out, and must not stop or free the server.
typedef void (*lxi_log_fn)(void *user, struct lxi_str line);

// How a store is served. Set `size` to `sizeof(lxi_server_options)` and say where to listen; the rest may be zero.
typedef struct lxi_server_options {
    // The size of this structure in bytes.
    size_t size;
    // LXI_SERVER_….
    uint32_t flags;
    // Threads for connections; 0 for one a core. Requests are answered on others.
    uint32_t threads;
    // Where to listen: `ADDRESS:PORT` for TLS, `http://ADDRESS:PORT` for plain HTTP; port 0 takes a free one.
    const struct lxi_str *listen;
    // How many.
    size_t listen_len;
    // The server's certificate in PEM, or empty. TLS needs it or `directory`.
    struct lxi_str certificate;
    // Its key in PEM.
    struct lxi_str key;
    // Where a certificate is kept that is made at the first start; used where `certificate` is empty. Or empty.
    struct lxi_str directory;
    // Certificates of clients that may see and change everything: a file, or a directory with `*.crt` and `*.pem`,
    // read again when it changes. Empty for none.
    struct lxi_str trusted;
    // The name of the server on its pages, or empty.
    struct lxi_str name;
    // The URL of the server for clients, if it differs from the host that they ask; or empty.
    struct lxi_str base_url;
    // The limits on what clients send, or NULL.
    const struct lxi_limits *limits;
    // With LXI_SERVER_GRACE: how long running requests may go on when the server is stopped; else 30 seconds.
    uint64_t grace_milliseconds;
    // Takes the log, or NULL.
    lxi_log_fn log;
    // Handed to `log`; must live until the server is stopped.
    void *log_user;
    // The remotes that trusted clients may name as the source of an image, by the settings of a user; NULL: the server
    // fetches nothing, and sends nothing to other servers.
    const struct lxi_settings *settings;
    // A remote of `settings` whose public images are offered to all clients, and cached when one asks for them; or
    // empty. An image that is larger than the limit `cache` is not fetched, and the least recently used ones go when
    // all are; eight downloads run at once.
    struct lxi_str upstream;
    // How other servers are spoken to, or NULL.
    const struct lxi_client_options *client;
} lxi_server_options;

// Plain HTTP may be offered to other machines.
#define LXI_SERVER_ALLOW_HTTP 1

// `grace_milliseconds` is said.
#define LXI_SERVER_GRACE 2

// Starts a server of the store, on threads of its own: to LXD and Incus, to tools of simplestreams, for import by URL,
// and as pages for people. It answers when this call returns, and goes on when the store is freed.
//
// Owner: the caller, who frees it with `lxi_server_free`. Threads: any. Errors: LXI_INVALID_INPUT for an address that
// is none, for TLS without a certificate, and for plain HTTP to other machines without the flag; LXI_MALFORMED for a
// certificate, a key or trusted certificates that can't be read; LXI_IO when an address can't be bound.
lxi_status lxi_server_start(const struct lxi_store *store,
                            const struct lxi_server_options *options,
                            struct lxi_server **server,
                            struct lxi_error **error);

// A URL that the server listens at, with an index from 0, in the order of `listen`; port 0 is replaced by the chosen
// one.
//
// Owner: the text belongs to the server. Threads: any. Errors: LXI_NOT_FOUND for an index past the end.
lxi_status lxi_server_url_at(const struct lxi_server *server,
                             size_t index,
                             struct lxi_str *url,
                             struct lxi_error **error);

// The sha256 of the server's certificate, which clients compare when they add it as a remote.
//
// Threads: any. Errors: LXI_NOT_FOUND without a certificate.
lxi_status lxi_server_fingerprint(const struct lxi_server *server,
                                  struct lxi_fingerprint *fingerprint,
                                  struct lxi_error **error);

// Stops the server: it takes no more connections, lets running requests end for the grace time, cuts those that go on,
// and this call returns, in some seconds more at most. After it `log` is not called any more. A second call does
// nothing.
//
// Threads: any, but not from `log`. Errors: why the server ended before, if it did: LXI_IO.
lxi_status lxi_server_stop(const struct lxi_server *server, struct lxi_error **error);

// Stops the server as `lxi_server_stop` does, if it runs, and frees it; NULL is allowed.
//
// Threads: any but one of `log`, the server being no longer used. Errors: LXI_INVALID_INPUT.
lxi_status lxi_server_free(struct lxi_server *server);

#ifdef __cplusplus
}  // extern "C"
#endif  // __cplusplus

#endif  /* LXD_IMAGE_H */
