package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"errors"
	"io/fs"
)

// Kind is what kind of an error it is. A kind is an error itself, to compare others with in errors.Is. Later versions may
// bring more kinds.
type Kind int32

// The kinds of errors.
const (
	// ErrNotFound: the thing that was named does not exist.
	ErrNotFound Kind = C.LXI_NOT_FOUND
	// ErrAlreadyExists: the thing that was to be made is already there.
	ErrAlreadyExists Kind = C.LXI_ALREADY_EXISTS
	// ErrInvalidInput: an argument makes no sense.
	ErrInvalidInput Kind = C.LXI_INVALID_INPUT
	// ErrMalformed: the bytes are not what their format says they must be.
	ErrMalformed Kind = C.LXI_MALFORMED
	// ErrUnsupported: the bytes are well formed, but ask for something that the library does not do.
	ErrUnsupported Kind = C.LXI_UNSUPPORTED
	// ErrFeatureDisabled: the piece that would do it was compiled out; the message names the feature.
	ErrFeatureDisabled Kind = C.LXI_FEATURE_DISABLED
	// ErrMismatch: a digest, a size or an ETag differs from the one that was expected; the error has both.
	ErrMismatch Kind = C.LXI_MISMATCH
	// ErrUnsafePath: a name or a link would lead out of the place it belongs to.
	ErrUnsafePath Kind = C.LXI_UNSAFE_PATH
	// ErrLimitExceeded: a limit was reached; the error names it, and Limits.Set raises it.
	ErrLimitExceeded Kind = C.LXI_LIMIT_EXCEEDED
	// ErrAmbiguous: several things match where exactly one is needed.
	ErrAmbiguous Kind = C.LXI_AMBIGUOUS
	// ErrBusy: somebody else holds the thing, and the wait that was allowed is over.
	ErrBusy Kind = C.LXI_BUSY
	// ErrTemplate: a template could not be parsed or rendered.
	ErrTemplate Kind = C.LXI_TEMPLATE
	// ErrRemote: a server answered wrongly, late or not at all.
	ErrRemote Kind = C.LXI_REMOTE
	// ErrCancelled: the caller asked to stop.
	ErrCancelled Kind = C.LXI_CANCELLED
	// ErrIO: the operating system refused, or a caller's reader or writer failed.
	ErrIO Kind = C.LXI_IO
	// ErrStorageFull: there is no space left on the file system that is written to, or in the quota there.
	ErrStorageFull Kind = C.LXI_STORAGE_FULL
	// ErrTransient: something between here and the data failed in a way that another try may mend.
	ErrTransient Kind = C.LXI_TRANSIENT
	// ErrUntrusted: a signature is not valid, a list is not signed by a key of its remote, or the policy does not admit the image.
	ErrUntrusted Kind = C.LXI_UNTRUSTED
	// ErrPanic: a defect of the library; the message has what it said. Please report it.
	ErrPanic Kind = C.LXI_PANIC
	// ErrOther: a kind that is newer than this list.
	ErrOther Kind = C.LXI_OTHER
)

// String is the kind's name, such as UnsafePath.
func (k Kind) String() string {
	return C.GoString(C.lxi_status_name(C.lxi_status(k)))
}

// Error makes a kind an error to compare with.
func (k Kind) Error() string {
	return "lxdimage: " + k.String()
}

// Stage says where in a template an error happened.
type Stage uint32

// The stages of a template.
const (
	// StageNone: the error is not one of a template.
	StageNone Stage = C.LXI_STAGE_NONE
	// StageParse: the template is not well formed.
	StageParse Stage = C.LXI_STAGE_PARSE
	// StageExec: the template is well formed, but could not be rendered with what it was given.
	StageExec Stage = C.LXI_STAGE_EXEC
)

// Error says why a call failed. Fields that don't apply are empty. Texts are for people and may be worded better at any time.
type Error struct {
	// Kind is what kind of an error it is.
	Kind Kind
	// Message is all of it in one line: file, entry, what is wrong, offset, cause. Safe to print on a terminal.
	Message string
	// Sentence is what is wrong, without file, entry, offset and cause. Not escaped, and neither are those below.
	Sentence string
	// Hint is what a person can do about it.
	Hint string
	// File is the path of the file that it happened in.
	File string
	// Entry is the member of an archive or tree that it happened in. Any bytes.
	Entry string
	// Expected and Found are both values of a mismatch.
	Expected, Found string
	// Limit is the name of the limit that was exceeded.
	Limit string
	// Offset is the position in the decoded stream in bytes, if HasOffset.
	Offset    uint64
	HasOffset bool
	// Stage, Line and Column, counted from 1, say where in a template it happened.
	Stage        Stage
	Line, Column int

	cause error
}

// Error is the message.
func (e *Error) Error() string {
	return e.Message
}

// Unwrap gives what a caller's reader, writer or context said, if it was that which ended the call.
func (e *Error) Unwrap() error {
	return e.cause
}

// Is compares with a kind, and with the errors of io/fs that mean the same.
func (e *Error) Is(target error) bool {
	switch target {
	case fs.ErrNotExist:
		return e.Kind == ErrNotFound
	case fs.ErrExist:
		return e.Kind == ErrAlreadyExists
	}
	kind, ok := target.(Kind)
	return ok && kind == e.Kind
}

// kindError is an error of this side of the line.
func kindError(kind Kind, sentence string, cause error) *Error {
	return &Error{Kind: kind, Message: sentence, Sentence: sentence, cause: cause}
}

// toError copies what an error says.
func toError(info *C.lxi_error_info) *Error {
	return &Error{
		Kind:      Kind(info.status),
		Message:   text(info.message),
		Sentence:  text(info.sentence),
		Hint:      text(info.hint),
		File:      text(info.file),
		Entry:     text(info.entry),
		Expected:  text(info.expected),
		Found:     text(info.found),
		Limit:     text(info.limit),
		Offset:    uint64(info.offset),
		HasOffset: bool(info.has_offset),
		Stage:     Stage(info.template_stage),
		Line:      int(info.line),
		Column:    int(info.column),
	}
}

// check turns the outcome of a call into an error, and frees what it was told in.
func check(status C.lxi_status, told *C.lxi_error) error {
	if status == C.LXI_OK {
		return nil
	}
	if told == nil {
		return kindError(Kind(status), Kind(status).String(), nil)
	}
	defer C.lxi_error_free(told)
	info := C.lxi_error_info{size: C.sizeof_lxi_error_info}
	C.lxi_error_get(told, &info)
	return toError(&info)
}

// statusOf is the status that a caller's error ends a call with.
func statusOf(err error) C.lxi_status {
	var own *Error
	if errors.As(err, &own) {
		return C.lxi_status(own.Kind)
	}
	var kind Kind
	if errors.As(err, &kind) {
		return C.lxi_status(kind)
	}
	if errors.Is(err, context.Canceled) || errors.Is(err, context.DeadlineExceeded) {
		return C.LXI_CANCELLED
	}
	return C.LXI_IO
}
