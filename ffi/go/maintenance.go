package lxdimage

// #include "callbacks.h"
import "C"

import (
	"context"
	"io"
	"time"
)

// Export writes an image's files to target, compared with the fingerprint, and returns their paths. Into a directory they go under
// the name they came with, or their fingerprint's: one file, or metadata as meta-NAME and rootfs. Any other target is a
// name: the image, or the metadata, gets it with its own ending, a rootfs with ".root".
//
// Errors: [ErrNotFound]; [ErrAlreadyExists] for a file that is there; [ErrMismatch] when the store's bytes are no longer the image;
// [ErrCancelled]; [ErrIO]. No part of the image is left then.
func (s *Store) Export(ctx context.Context, fingerprint Fingerprint, target string) ([]string, error) {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	of := fingerprint.c()
	var exported *C.lxi_exported
	var told *C.lxi_error
	if err := c.check(C.lxi_store_export(store, &of, str(target), c.monitor, &exported, &told), told); err != nil {
		return nil, err
	}
	defer C.lxi_exported_free(exported)
	var paths []string
	for {
		var path C.lxi_str
		if C.lxi_exported_file_at(exported, C.size_t(len(paths)), &path, nil) != C.LXI_OK {
			return paths, nil
		}
		paths = append(paths, text(path))
	}
}

// ExportTo writes a unified image to a writer and returns its size. The writer is used during the call only.
//
// Errors: [ErrNotFound]; [ErrInvalidInput] for a split image, which is two streams; [ErrMismatch] when the store's bytes turn out not
// to be the image, after they were written; the writer's, in the chain; [ErrCancelled]; [ErrIO].
func (s *Store) ExportTo(ctx context.Context, fingerprint Fingerprint, out io.Writer) (int64, error) {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return 0, err
	}
	defer end()
	of := fingerprint.c()
	var bytes C.uint64_t
	var told *C.lxi_error
	err = c.check(C.lxi_go_export_to(store, &of, c.sink(out), c.monitor, &bytes, &told), told)
	return int64(bytes), err
}

// PruneOptions say which cached images go. Nil, or the zero value: those that were not used for 10 days, which is what LXD does,
// and those past their expiry date. Images that were put in the store on purpose never go.
type PruneOptions struct {
	// DryRun removes nothing, and tells what would be removed.
	DryRun bool
	// UnusedFor is how long an image must not have been used; 0: only the expiry date counts. Nil: 10 days.
	UnusedFor *time.Duration
	// MaxBytes is how many bytes the cached images may have; over it, the least recently used go too. Nil: no bound.
	MaxBytes *uint64
}

// Removal is why an image was removed.
type Removal uint32

// The reasons.
const (
	// RemovedOther is something newer than this list.
	RemovedOther Removal = C.LXI_REMOVED_OTHER
	// RemovedExpired: its expiry date is over.
	RemovedExpired Removal = C.LXI_REMOVED_EXPIRED
	// RemovedUnused: it was not used for too long.
	RemovedUnused Removal = C.LXI_REMOVED_UNUSED
	// RemovedEvicted: the cached images had more bytes than they may, and it was among the least recently used.
	RemovedEvicted Removal = C.LXI_REMOVED_EVICTED
)

// Pruned is what a pruning removed, or would remove.
type Pruned struct {
	// Images are those that went.
	Images []PrunedImage
	// Bytes is the size of their files, and of the layers of container images that went.
	Bytes uint64
}

// PrunedImage is an image that went.
type PrunedImage struct {
	*StoredImage
	// Why it went.
	Why Removal
}

// Prune removes cached images. Errors: [ErrMalformed] when the catalog is damaged or the blobs are not there, [ErrBusy], [ErrCancelled],
// [ErrIO]. What was removed before stays so.
func (s *Store) Prune(ctx context.Context, options *PruneOptions) (*Pruned, error) {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	given := one[C.lxi_prune_options](&c.arena)
	given.size = C.sizeof_lxi_prune_options
	given.monitor = c.monitor
	if options != nil {
		if options.DryRun {
			given.flags |= C.LXI_PRUNE_DRY_RUN
		}
		if options.UnusedFor != nil {
			given.flags |= C.LXI_PRUNE_UNUSED_FOR
			if unused := *options.UnusedFor / time.Second; unused > 0 {
				given.unused_for_seconds = C.uint64_t(unused)
			}
		}
		if options.MaxBytes != nil {
			given.flags |= C.LXI_PRUNE_MAX_BYTES
			given.max_bytes = C.uint64_t(*options.MaxBytes)
		}
	}
	var pruned *C.lxi_pruned
	var count C.size_t
	var bytes C.uint64_t
	var told *C.lxi_error
	if err := c.check(C.lxi_store_prune(store, given, &pruned, &count, &bytes, &told), told); err != nil {
		return nil, err
	}
	defer C.lxi_pruned_free(pruned)
	found := &Pruned{Bytes: uint64(bytes)}
	for i := C.size_t(0); i < count; i++ {
		var image *C.lxi_stored_image
		var why C.lxi_removed
		if err := check(C.lxi_pruned_at(pruned, i, &image, &why, &told), told); err != nil {
			return nil, err
		}
		stored, err := toStoredImage(image)
		if err != nil {
			return nil, err
		}
		found.Images = append(found.Images, PrunedImage{stored, Removal(why)})
	}
	return found, nil
}

// FindingKind is what is not as it must be in a store.
type FindingKind uint32

// The kinds of findings.
const (
	// FindingOther is something newer than this list.
	FindingOther FindingKind = C.LXI_FINDING_OTHER
	// FindingCatalog: the catalog is damaged. [Repair] makes it anew.
	FindingCatalog FindingKind = C.LXI_FINDING_CATALOG
	// FindingMissing: an image's file is not there. Repairing removes the image.
	FindingMissing FindingKind = C.LXI_FINDING_MISSING
	// FindingDamaged: an image's bytes are not those of its fingerprint. Repairing puts the files aside and removes the image.
	FindingDamaged FindingKind = C.LXI_FINDING_DAMAGED
	// FindingUnreadable: an image's files can't be opened or read. Repairing leaves it where it is.
	FindingUnreadable FindingKind = C.LXI_FINDING_UNREADABLE
	// FindingUnlisted: files of an image that the catalog does not know. Repairing takes it in again, or puts the files aside.
	FindingUnlisted FindingKind = C.LXI_FINDING_UNLISTED
	// FindingSidecar: an image's sidecar file is not up to date. Repairing writes it.
	FindingSidecar FindingKind = C.LXI_FINDING_SIDECAR
	// FindingStray: a file that no store makes. Repairing puts it aside.
	FindingStray FindingKind = C.LXI_FINDING_STRAY
	// FindingLost: what could not be brought back when the catalog was made anew.
	FindingLost FindingKind = C.LXI_FINDING_LOST
	// FindingRow: an image's files are whole, and the catalog has other sizes. Repairing corrects the catalog.
	FindingRow FindingKind = C.LXI_FINDING_ROW
)

// Finding is something that is not as it must be.
type Finding struct {
	// Kind is what it is.
	Kind FindingKind
	// Fingerprint is the image that it is about, or nil.
	Fingerprint *Fingerprint
	// Message is the finding in words.
	Message string
}

// Unrepaired is a finding that a repair left as it is.
type Unrepaired struct {
	Finding
	// Reason is why.
	Reason string
}

// CheckReport is what a check found.
type CheckReport struct {
	// Images is how many there are in the catalog.
	Images uint64
	// Bytes is how many bytes were hashed.
	Bytes uint64
	// Swept is how many leftovers of processes that are gone were swept on the way.
	Swept uint64
	// Findings are what is not as it must be. A repair puts it right, but for what Unrepaired names.
	Findings []Finding
	// Unrepaired are those of the findings that a repair left as they are.
	Unrepaired []Unrepaired
}

// CheckOptions say how a store is checked. Nil, or the zero value: looks, and changes nothing.
type CheckOptions struct {
	// Repair puts right what is found, but for a damaged catalog: that is [Repair]'s.
	Repair bool
}

func (c *call) checkOptions(options *CheckOptions) *C.lxi_check_options {
	given := one[C.lxi_check_options](&c.arena)
	given.size = C.sizeof_lxi_check_options
	given.monitor = c.monitor
	if options != nil && options.Repair {
		given.flags |= C.LXI_CHECK_REPAIR
	}
	return given
}

// Check hashes every image, compares catalog and files, and sweeps leftovers. What is damaged is no error but a finding.
// Errors: [ErrMalformed] when the blobs are not those of this store, [ErrCancelled], [ErrBusy], [ErrIO].
func (s *Store) Check(ctx context.Context, options *CheckOptions) (*CheckReport, error) {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	var report *C.lxi_check_report
	var told *C.lxi_error
	if err := c.check(C.lxi_store_check(store, c.checkOptions(options), &report, &told), told); err != nil {
		return nil, err
	}
	return toReport(report)
}

// Repair checks the store at path and puts right what is wrong, the catalog included: one that is damaged or missing is made anew from
// the images. No other process may use the store meanwhile.
//
// Errors: [ErrNotFound] without a store, [ErrMalformed] when the blobs are not those of this store, [ErrUnsupported] for a newer layout,
// [ErrCancelled], [ErrIO].
func Repair(ctx context.Context, path string, options *StoreOptions) (*CheckReport, error) {
	c := begin(ctx)
	defer c.end()
	opening, done, err := c.storeOptions(options)
	if err != nil {
		return nil, err
	}
	defer done()
	if options != nil && options.Clock != nil {
		c.clock = &ticker{now: options.Clock}
		C.lxi_go_set_clock(opening, c.pass(c.clock))
	}
	var report *C.lxi_check_report
	var told *C.lxi_error
	if err := c.check(C.lxi_store_repair(str(path), opening, c.checkOptions(nil), &report, &told), told); err != nil {
		return nil, err
	}
	return toReport(report)
}

// toReport copies a report, and frees it.
func toReport(report *C.lxi_check_report) (*CheckReport, error) {
	defer C.lxi_check_report_free(report)
	info := C.lxi_check_info{size: C.sizeof_lxi_check_info}
	var told *C.lxi_error
	if err := check(C.lxi_check_report_get(report, &info, &told), told); err != nil {
		return nil, err
	}
	found := &CheckReport{Images: uint64(info.images), Bytes: uint64(info.bytes), Swept: uint64(info.swept)}
	for i := C.size_t(0); i < info.findings; i++ {
		finding := C.lxi_finding{size: C.sizeof_lxi_finding}
		if err := check(C.lxi_check_report_finding_at(report, i, &finding, &told), told); err != nil {
			return nil, err
		}
		found.Findings = append(found.Findings, toFinding(&finding))
	}
	for i := C.size_t(0); i < info.unrepaired; i++ {
		finding := C.lxi_finding{size: C.sizeof_lxi_finding}
		var reason C.lxi_str
		if err := check(C.lxi_check_report_unrepaired_at(report, i, &finding, &reason, &told), told); err != nil {
			return nil, err
		}
		found.Unrepaired = append(found.Unrepaired, Unrepaired{Finding: toFinding(&finding), Reason: text(reason)})
	}
	return found, nil
}

func toFinding(finding *C.lxi_finding) Finding {
	told := Finding{Kind: FindingKind(finding.kind), Message: text(finding.message)}
	if finding.has_fingerprint {
		of := toFingerprint(&finding.fingerprint)
		told.Fingerprint = &of
	}
	return told
}
