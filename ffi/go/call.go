package lxdimage

// #include "callbacks.h"
import "C"

import (
	"context"
	"io"
	"runtime/cgo"
)

// Phase is what a long call is busy with.
type Phase uint32

// The phases of long calls.
const (
	// PhaseOther is something newer than this list.
	PhaseOther Phase = C.LXI_PHASE_OTHER
	// PhaseHash is reading and hashing.
	PhaseHash Phase = C.LXI_PHASE_HASH
	// PhaseVerify is reading, decoding and checking.
	PhaseVerify Phase = C.LXI_PHASE_VERIFY
	// PhaseUnpack is reading, decoding and writing a tree.
	PhaseUnpack Phase = C.LXI_PHASE_UNPACK
	// PhasePack is reading a tree and writing an archive.
	PhasePack Phase = C.LXI_PHASE_PACK
	// PhaseConvert is reading one archive and writing another.
	PhaseConvert Phase = C.LXI_PHASE_CONVERT
	// PhaseUpload is sending to a server or to object storage.
	PhaseUpload Phase = C.LXI_PHASE_UPLOAD
	// PhaseDelta is making or applying a delta.
	PhaseDelta Phase = C.LXI_PHASE_DELTA
)

// String is the phase in a word.
func (p Phase) String() string {
	switch p {
	case PhaseHash:
		return "hash"
	case PhaseVerify:
		return "verify"
	case PhaseUnpack:
		return "unpack"
	case PhasePack:
		return "pack"
	case PhaseConvert:
		return "convert"
	case PhaseUpload:
		return "upload"
	case PhaseDelta:
		return "delta"
	}
	return "other"
}

// Progress is one report of a long call.
type Progress struct {
	// Phase is what the call is busy with.
	Phase Phase
	// Done is how many bytes of the input were consumed so far.
	Done uint64
	// Total is how many bytes of the input there are in all, or -1 if that is not known.
	Total int64
}

type progressKey struct{}

// WithProgress makes a context whose long calls report: at least once for each MiB of input, to one call of report at a
// time. To stop a call, cancel its context.
func WithProgress(ctx context.Context, report func(Progress)) context.Context {
	return context.WithValue(ctx, progressKey{}, report)
}

// call is one call of the library: the memory that its arguments sit in, who watches it, and what the caller's own
// functions said.
type call struct {
	arena
	failure
	ctx     context.Context
	monitor *C.lxi_monitor
	record  *C.lxi_omissions
	cancel  *C.lxi_cancel
	over    chan struct{}
	gone    chan struct{}
	handles []cgo.Handle
	streams []*stream
	clock   *ticker
}

// begin must be followed by a deferred end.
func begin(ctx context.Context) *call {
	c := &call{ctx: ctx}
	c.monitor = one[C.lxi_monitor](&c.arena)
	c.monitor.size = C.sizeof_lxi_monitor
	C.lxi_omissions_new(&c.record, nil)
	c.monitor.omissions = c.record
	if report, _ := ctx.Value(progressKey{}).(func(Progress)); report != nil {
		C.lxi_go_set_progress(c.monitor, c.pass(&reports{failure: &c.failure, report: report}))
	}
	if ctx.Done() != nil {
		C.lxi_cancel_new(&c.cancel, nil)
		c.monitor.cancel = c.cancel
		c.over, c.gone = make(chan struct{}), make(chan struct{})
		if ctx.Err() != nil {
			// Done before it began: then it does nothing at all, whoever is faster.
			C.lxi_cancel_set(c.cancel, nil)
		}
		go func() {
			defer close(c.gone)
			select {
			case <-ctx.Done():
				C.lxi_cancel_set(c.cancel, nil)
			case <-c.over:
			}
		}()
	}
	return c
}

// end gives back what the call needed. A panic of the caller's own functions goes on here, when results are safe.
func (c *call) end() {
	if c.over != nil {
		close(c.over)
		<-c.gone
		C.lxi_cancel_free(c.cancel)
	}
	for _, handle := range c.handles {
		handle.Delete()
	}
	c.arena.free()
	var found Omissions
	told, _ := c.ctx.Value(omissionsKey{}).(*recorder)
	if told != nil {
		found = c.omissions()
	}
	C.lxi_omissions_free(c.record)
	if found.Total > 0 {
		told.tell(found)
	}
	c.failure.raise()
	for _, s := range c.streams {
		s.raise()
	}
	if c.clock != nil {
		c.clock.raise()
	}
}

// pass makes a value one that a callback gets.
func (c *call) pass(value any) C.uintptr_t {
	handle := cgo.NewHandle(value)
	c.handles = append(c.handles, handle)
	return C.uintptr_t(handle)
}

func (c *call) sink(writer io.Writer) C.uintptr_t {
	return c.pass(&sink{failure: &c.failure, writer: writer})
}

// check turns the outcome into an error that has what the caller's own functions and the context said in its chain.
func (c *call) check(status C.lxi_status, told *C.lxi_error) error {
	err := check(status, told)
	said := c.failure.get()
	for _, s := range c.streams {
		if saying := s.get(); said == nil {
			said = saying
		}
	}
	failed, ok := err.(*Error)
	if !ok {
		return err
	}
	switch {
	case failed.Kind == ErrCancelled && c.ctx.Err() != nil:
		failed.cause = c.ctx.Err()
	case said != nil && statusOf(said) == C.lxi_status(failed.Kind):
		failed.cause = said
		failed.Message += ": " + said.Error()
	}
	return failed
}

// flag is an option that is on or off, and its bit in the flags of a structure.
type flag struct {
	set bool
	bit C.uint32_t
}

// flags are the bits of the options that are on.
func flags(options ...flag) C.uint32_t {
	var bits C.uint32_t
	for _, option := range options {
		if option.set {
			bits |= option.bit
		}
	}
	return bits
}
