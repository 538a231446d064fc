package lxdimage

// #include <lxd_image.h>
import "C"

import "context"

// DeltaOptions say how a delta is made. Nil, or the zero value: as small as it gets, with all cores.
type DeltaOptions struct {
	// Level is how hard to compress, from 1 (fast) to 9 (small); 0 does not compress. Nil: 9.
	Level *uint32
	// Threads is how many work; 0 for all cores. The delta is the same for every number; each needs up to 700 MiB.
	Threads uint32
	// IndexMemory is how many bytes the index of the old file may take; 0 for 256 MiB. The delta depends on it.
	IndexMemory uint64
}

// Delta is what a delta was made of, or what it made.
type Delta struct {
	// DeltaBytes and NewBytes are sizes; CopiedBytes of the new file are copied from the old one.
	DeltaBytes, NewBytes, CopiedBytes uint64
	// Windows is how many windows the delta has.
	Windows uint64
	// HasChecksums says whether each window has one. Without them only a digest shows that the old file was the right one.
	HasChecksums bool
}

func toDelta(info *C.lxi_delta_info) *Delta {
	return &Delta{uint64(info.delta_bytes), uint64(info.new_bytes), uint64(info.copied_bytes), uint64(info.windows), bool(info.has_checksums)}
}

// MakeDelta writes the delta that makes newFile out of oldFile to out, in the format of xdelta3. out gets its name when it is complete.
// Errors: [ErrNotFound] for a file that is not there, [ErrAlreadyExists] for an output that is, [ErrCancelled], [ErrStorageFull], [ErrIO].
func MakeDelta(ctx context.Context, oldFile, newFile, out string, options *DeltaOptions) (*Delta, error) {
	c := begin(ctx)
	defer c.end()
	given := one[C.lxi_delta_options](&c.arena)
	given.size = C.sizeof_lxi_delta_options
	given.monitor = c.monitor
	if options != nil {
		if options.Level != nil {
			given.flags |= C.LXI_DELTA_LEVEL
			given.level = C.uint32_t(*options.Level)
		}
		given.threads = C.uint32_t(options.Threads)
		given.index_memory = C.uint64_t(options.IndexMemory)
	}
	info := C.lxi_delta_info{size: C.sizeof_lxi_delta_info}
	var told *C.lxi_error
	if err := c.check(C.lxi_delta_make(str(oldFile), str(newFile), str(out), given, &info, &told), told); err != nil {
		return nil, err
	}
	return toDelta(&info), nil
}

// ApplyDelta applies a delta to oldFile and writes the new version to out, which gets its name when it is complete and, with expected,
// has that sha256. A delta is as hostile as any input: compare the digest. Limits may be nil.
//
// Errors: [ErrNotFound], [ErrAlreadyExists]; [ErrMalformed] for a broken delta; [ErrMismatch] where oldFile is not the one that it was made
// from, and for another digest; [ErrUnsupported]; [ErrLimitExceeded]; [ErrCancelled]; [ErrStorageFull]; [ErrIO]. There is no output then.
func ApplyDelta(ctx context.Context, oldFile, delta, out string, expected *Fingerprint, limits *Limits) (*Delta, error) {
	c := begin(ctx)
	defer c.end()
	bounds, done, err := limits.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	info := C.lxi_delta_info{size: C.sizeof_lxi_delta_info}
	var told *C.lxi_error
	status := C.lxi_delta_apply(str(oldFile), str(delta), str(out), c.fingerprint(expected), bounds, c.monitor, &info, &told)
	if err := c.check(status, told); err != nil {
		return nil, err
	}
	return toDelta(&info), nil
}
