package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"os"
	"syscall"
)

// Trigger is the event in an instance's life that templates are applied at.
type Trigger string

// The triggers.
const (
	// TriggerCreate is when an instance is made of an image.
	TriggerCreate Trigger = "create"
	// TriggerCopy is when it is made as another one's copy.
	TriggerCopy Trigger = "copy"
	// TriggerRename is when it gets another name.
	TriggerRename Trigger = "rename"
	// TriggerStart is each start.
	TriggerStart Trigger = "start"
)

// ApplyOptions say how templates are applied. Nil, or the zero value: as LXD does, owners as they are, and the first failure
// stops.
type ApplyOptions struct {
	// Metadata has the rules; nil: the directory's metadata.yaml has them.
	Metadata *Metadata
	// Dialect is whose templates these are. Only Incus knows a rule's owner and mode.
	Dialect Dialect
	// KeepGoing applies the rules behind one that failed all the same.
	KeepGoing bool
	// DryRun only tells what would change, and writes nothing.
	DryRun bool
	// IDMap says how the owners of new files are shifted; none: not at all.
	IDMap []IDRange
	// Output is, for a virtual machine, the directory that gets <template>.out files and a copy of metadata.yaml, for the agent
	// inside to put in place.
	Output string
	// Limits are what templates may ask for.
	Limits *Limits
}

// Action is what was done with a rule.
type Action uint32

// The actions.
const (
	// ActionOther is something newer than this list.
	ActionOther Action = C.LXI_ACTION_OTHER
	// ActionCreated: the file was not there.
	ActionCreated Action = C.LXI_ACTION_CREATED
	// ActionReplaced: the file was there with another content.
	ActionReplaced Action = C.LXI_ACTION_REPLACED
	// ActionUnchanged: the file was there with this very content.
	ActionUnchanged Action = C.LXI_ACTION_UNCHANGED
	// ActionSkipped: the rule did not apply.
	ActionSkipped Action = C.LXI_ACTION_SKIPPED
	// ActionFailed: the rule failed, and its file is as it was.
	ActionFailed Action = C.LXI_ACTION_FAILED
)

// String is the action in a word.
func (a Action) String() string {
	names := [...]string{"other", "created", "replaced", "unchanged", "skipped", "failed"}
	if int(a) < len(names) {
		return names[a]
	}
	return names[0]
}

// Outcome is what became of one rule.
type Outcome struct {
	// Path is the rule's, as the metadata has it.
	Path string
	// Template is the rule's.
	Template string
	// Action is what was done, or would be by a dry run.
	Action Action
	// Reason says why, in words.
	Reason string
	// Failure is the kind of the failure, of a rule that failed; else 0.
	Failure Kind
	// UID, GID and Mode are the file's afterwards, with the host's numbers, unless the rule was skipped or failed.
	UID, GID, Mode uint32
	// Bytes is the file's size.
	Bytes uint64
	// Change is what a dry run would change; else nil.
	Change *Change
}

// Change is what a dry run would change.
type Change struct {
	// Old is what the file holds now; nil if there is no file.
	Old []byte
	// New is what the template gives.
	New []byte
}

// applyOptions makes arguments; what they borrow is given back by the returned function.
func (c *call) applyOptions(options *ApplyOptions) (*C.lxi_apply_options, *C.lxi_metadata, func(), error) {
	if options == nil {
		options = &ApplyOptions{}
	}
	metadata, metadataDone, err := options.Metadata.borrow()
	if err != nil {
		return nil, nil, nil, err
	}
	limits, limitsDone, err := options.Limits.borrow()
	if err != nil {
		metadataDone()
		return nil, nil, nil, err
	}
	given := one[C.lxi_apply_options](&c.arena)
	given.size = C.sizeof_lxi_apply_options
	given.monitor = c.monitor
	given.dialect = C.lxi_dialect(options.Dialect)
	if options.KeepGoing {
		given.flags |= C.LXI_APPLY_KEEP_GOING
	}
	if options.DryRun {
		given.flags |= C.LXI_APPLY_DRY_RUN
	}
	given.id_map, given.id_map_len = c.idMap(options.IDMap)
	given.output = c.str(options.Output)
	given.limits = limits
	return given, metadata, func() {
		limitsDone()
		metadataDone()
	}, nil
}

// Apply applies the template rules that fire at trigger to the directory that unpacking made, with rootfs/ and templates/. Each
// path is resolved below the root as a process in the instance would resolve it, never out of it; a file is replaced in one
// step, or stays as it was. One instance at a time.
//
// When a rule fails the outcomes are returned all the same. Errors: the first failure: [ErrUnsafePath] for a template's name
// that is not plain and a target that leads out or is no regular file, [ErrNotFound] for a missing template, [ErrTemplate] and
// [ErrLimitExceeded] from rendering, [ErrInvalidInput] for numbers in a rule that are none, [ErrMalformed], [ErrIO], [ErrCancelled].
func Apply(ctx context.Context, directory string, trigger Trigger, variables *TemplateContext, options *ApplyOptions) ([]Outcome, error) {
	c := begin(ctx)
	defer c.end()
	given, metadata, done, err := c.applyOptions(options)
	if err != nil {
		return nil, err
	}
	defer done()
	values, valuesDone, err := variables.borrow()
	if err != nil {
		return nil, err
	}
	defer valuesDone()
	var applied *C.lxi_applied
	var told *C.lxi_error
	status := C.lxi_apply(str(directory), metadata, str(string(trigger)), values, given, &applied, &told)
	return c.outcomes(applied, c.check(status, told))
}

// ApplyAt is [Apply] with an instance's root and its image's templates/ as open directories. The options must have the metadata.
func ApplyAt(ctx context.Context, rootfs, templates *os.File, trigger Trigger, variables *TemplateContext, options *ApplyOptions) ([]Outcome, error) {
	c := begin(ctx)
	defer c.end()
	given, metadata, done, err := c.applyOptions(options)
	if err != nil {
		return nil, err
	}
	defer done()
	values, valuesDone, err := variables.borrow()
	if err != nil {
		return nil, err
	}
	defer valuesDone()
	root, err := duplicate(rootfs)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(root)
	sources, err := duplicate(templates)
	if err != nil {
		return nil, err
	}
	defer syscall.Close(sources)
	var applied *C.lxi_applied
	var told *C.lxi_error
	status := C.lxi_apply_at(C.int32_t(root), C.int32_t(sources), metadata, str(string(trigger)), values, given, &applied, &told)
	return c.outcomes(applied, c.check(status, told))
}

// outcomes tells what became of the rules, also after a failure.
func (c *call) outcomes(applied *C.lxi_applied, failed error) ([]Outcome, error) {
	if applied == nil {
		return nil, failed
	}
	defer C.lxi_applied_free(applied)
	var count C.size_t
	var told *C.lxi_error
	if err := check(C.lxi_applied_len(applied, &count, &told), told); err != nil {
		return nil, err
	}
	outcomes := make([]Outcome, 0, int(count))
	for i := C.size_t(0); i < count; i++ {
		info := C.lxi_outcome{size: C.sizeof_lxi_outcome}
		if err := check(C.lxi_applied_at(applied, i, &info, &told), told); err != nil {
			return nil, err
		}
		outcome := Outcome{
			Path:     text(info.path),
			Template: text(info.template_name),
			Action:   Action(info.action),
			Reason:   text(info.reason),
			Failure:  Kind(info.status),
			UID:      uint32(info.uid),
			GID:      uint32(info.gid),
			Mode:     uint32(info.mode),
			Bytes:    uint64(info.bytes),
		}
		if info.has_change {
			outcome.Change = &Change{New: copied(info.new_content)}
			if info.has_old {
				outcome.Change.Old = copied(info.old_content)
			}
		}
		outcomes = append(outcomes, outcome)
	}
	return outcomes, failed
}
