package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"unsafe"
)

// handlePointer is what a handle leads to, for one call.
type handlePointer struct {
	ptr unsafe.Pointer
}

// CopyOptions say how an image is copied from a remote. Nil, or the zero value: a private copy of a container's image for this machine,
// without an alias, that is not refreshed.
type CopyOptions struct {
	// Aliases that the copy gets.
	Aliases []Alias
	// Properties win over those of the image and of the remote.
	Properties Properties
	// Type is what an alias must have; 0 for containers.
	Type Type
	// Architectures are the machines that an alias may mean, best first, by any of their names; none for this one.
	Architectures []string
	// ExpectedFingerprint is what it must have, whatever the server says; or nil.
	ExpectedFingerprint *Fingerprint
	// CopyAliases also gives it the aliases that it has on the remote.
	CopyAliases bool
	// ReuseAliases moves aliases that are taken, instead of failing.
	ReuseAliases bool
	// ReplaceImages deletes an image that loses its last alias to the copy, unless it is to be kept.
	ReplaceImages bool
	// AutoUpdate lets the copy follow its source when it is refreshed. The image must be named by an alias then.
	AutoUpdate bool
	// Public lets clients read it that have not authenticated.
	Public bool
	// TrustTransport allows an image whose fingerprint nothing names before the download: the server decides what its bytes are.
	TrustTransport bool
}

func (c *call) copyOptions(options *CopyOptions) *C.lxi_copy_options {
	given := one[C.lxi_copy_options](&c.arena)
	given.size = C.sizeof_lxi_copy_options
	given.monitor = c.monitor
	if options == nil {
		return given
	}
	given.flags = flags(
		flag{options.CopyAliases, C.LXI_COPY_COPY_ALIASES},
		flag{options.ReuseAliases, C.LXI_COPY_REUSE_ALIASES},
		flag{options.ReplaceImages, C.LXI_COPY_REPLACE_IMAGES},
		flag{options.AutoUpdate, C.LXI_COPY_AUTO_UPDATE},
		flag{options.Public, C.LXI_COPY_PUBLIC},
		flag{options.TrustTransport, C.LXI_COPY_TRUST_TRANSPORT},
	)
	given.image_type = C.lxi_image_type(options.Type)
	given.aliases, given.aliases_len = c.aliases(options.Aliases)
	given.properties, given.properties_len = c.pairs(options.Properties)
	given.architectures, given.architectures_len = c.strs(options.Architectures)
	given.expected_fingerprint = c.fingerprint(options.ExpectedFingerprint)
	return given
}

// CopyFrom copies the image that reference names on a remote into the store. One that is there already gets what the options say, and
// nothing is downloaded; a cached image becomes one that stays.
//
// Errors: those of [Remote.Resolve] and [Store.Import], above all [ErrMismatch] when the bytes are not those of the fingerprint that was
// named; [ErrAlreadyExists] for an alias that is taken; [ErrInvalidInput] for an image that is to follow its source and is named by a
// fingerprint. The store is as it was.
func (s *Store) CopyFrom(ctx context.Context, remote *Remote, reference string, options *CopyOptions) (*StoredImage, error) {
	return s.bring(ctx, remote, reference, options, false)
}

// GetOrFetch gives the image that reference names on a remote: from the store if it is there, else downloaded, and cached until it is
// unused for long enough ([Store.Prune]). Marks it as used. If the server can't be reached, the image that the alias meant last is given,
// if that is here. Errors: as [Store.CopyFrom]; [ErrInvalidInput] for options about aliases, which a cached image has none of.
func (s *Store) GetOrFetch(ctx context.Context, remote *Remote, reference string, options *CopyOptions) (*StoredImage, error) {
	return s.bring(ctx, remote, reference, options, true)
}

func (s *Store) bring(ctx context.Context, remote *Remote, reference string, options *CopyOptions, cached bool) (*StoredImage, error) {
	ptr, err := remote.handle.acquire()
	if err != nil {
		return nil, err
	}
	defer remote.handle.release()
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	from := (*C.lxi_remote)(ptr)
	given := c.copyOptions(options)
	var image *C.lxi_stored_image
	var told *C.lxi_error
	var status C.lxi_status
	if cached {
		status = C.lxi_store_get_or_fetch(store, from, str(reference), given, &image, &told)
	} else {
		status = C.lxi_store_copy_from(store, from, str(reference), given, &image, &told)
	}
	if err := c.check(status, told); err != nil {
		return nil, err
	}
	return toStoredImage(image)
}

// RefreshOptions say how images are refreshed. Nil, or the zero value: newer ones are fetched and take the place of the old ones.
type RefreshOptions struct {
	// DryRun replaces nothing, and tells what would be replaced.
	DryRun bool
	// Settings say how servers are spoken to that have a name in them; or nil.
	Settings *Settings
	// Client says how the others are.
	Client *ClientOptions
}

// Refreshing is what became of an image that was refreshed.
type Refreshing uint32

// The outcomes.
const (
	// RefreshedOther is something newer than this list.
	RefreshedOther Refreshing = C.LXI_REFRESHED_OTHER
	// RefreshedNotFollowing: it follows no source, and was not changed.
	RefreshedNotFollowing Refreshing = C.LXI_REFRESHED_NOT_FOLLOWING
	// RefreshedCurrent: it is the newest of its source.
	RefreshedCurrent Refreshing = C.LXI_REFRESHED_CURRENT
	// RefreshedReplaced: a newer image took its place, or would.
	RefreshedReplaced Refreshing = C.LXI_REFRESHED_REPLACED
	// RefreshedFailed: it could not be refreshed, and is as it was.
	RefreshedFailed Refreshing = C.LXI_REFRESHED_FAILED
)

// Refreshed is what became of one image.
type Refreshed struct {
	// Image is the one that was refreshed.
	Image Fingerprint
	// Outcome is what became of it.
	Outcome Refreshing
	// Newest is the newest of its source, where that is known.
	Newest Fingerprint
	// Err is why it failed, for RefreshedFailed.
	Err error
}

// Refresh replaces images by the newest of their sources: those named, or without any all that follow one. One that fails does not stop
// the others. Errors: [ErrMalformed] when the catalog is damaged, [ErrCancelled], [ErrIO].
func (s *Store) Refresh(ctx context.Context, options *RefreshOptions, fingerprints ...Fingerprint) ([]Refreshed, error) {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	given := one[C.lxi_refresh_options](&c.arena)
	given.size = C.sizeof_lxi_refresh_options
	given.monitor = c.monitor
	var settings *C.lxi_settings
	if options != nil {
		if options.DryRun {
			given.flags |= C.LXI_REFRESH_DRY_RUN
		}
		client, done, err := c.clientOptions(options.Client)
		if err != nil {
			return nil, err
		}
		defer done()
		given.client = client
		if options.Settings != nil {
			ptr, err := options.Settings.handle.acquire()
			if err != nil {
				return nil, err
			}
			defer options.Settings.handle.release()
			settings = (*C.lxi_settings)(ptr)
		}
	}
	named, count := c.fingerprints(fingerprints)
	var report *C.lxi_refresh_report
	var told *C.lxi_error
	if err := c.check(C.lxi_store_refresh(store, settings, named, count, given, &report, &told), told); err != nil {
		return nil, err
	}
	defer C.lxi_refresh_report_free(report)
	if err := check(C.lxi_refresh_report_len(report, &count, &told), told); err != nil {
		return nil, err
	}
	found := make([]Refreshed, 0, int(count))
	for i := C.size_t(0); i < count; i++ {
		var image, newest C.lxi_fingerprint
		var outcome C.lxi_refreshed
		if err := check(C.lxi_refresh_report_at(report, i, &image, &outcome, &newest, &told), told); err != nil {
			return nil, err
		}
		one := Refreshed{Image: toFingerprint(&image), Outcome: Refreshing(outcome), Newest: toFingerprint(&newest)}
		info := C.lxi_error_info{size: C.sizeof_lxi_error_info}
		if C.lxi_refresh_report_error_at(report, i, &info, nil) == C.LXI_OK {
			one.Err = toError(&info)
		}
		found = append(found, one)
	}
	return found, nil
}

// fingerprints are an array.
func (c *call) fingerprints(list []Fingerprint) (*C.lxi_fingerprint, C.size_t) {
	first, all := many[C.lxi_fingerprint](&c.arena, len(list))
	for i := range list {
		all[i] = list[i].c()
	}
	return first, C.size_t(len(all))
}

// MirrorOptions say which images are mirrored. Nil, or the zero value: all, and nothing is deleted.
type MirrorOptions struct {
	// Filters are conditions that an image must meet: those of [Store.List].
	Filters []string
	// Delete deletes images that meet the filters and are gone on the remote; in a store only those that a mirror brought from there.
	// A remote that lists nothing deletes nothing.
	Delete bool
}

// Mirrored is what a mirror did.
type Mirrored struct {
	// Copied are the images that were copied, newest first, as the remote described them.
	Copied []*StoredImage
	// Kept is how many were there already.
	Kept int
	// Removed are those that were deleted.
	Removed []Fingerprint
	// Failed are those that could not be copied because of themselves, and why. The next run tries them again.
	Failed map[Fingerprint]error
}

// MirrorToStore makes a store equal to a remote: copies what is missing, newest first. An image that can't be copied does not stop the
// others. An interrupted run is continued by the next one.
//
// Errors: [ErrInvalidInput] for a filter that is none; [ErrRemote] when the server can't be reached any more, or lists nothing while what
// is gone is to be deleted; [ErrCancelled]; [ErrStorageFull]; [ErrIO]. What was copied before stays.
func (r *Remote) MirrorToStore(ctx context.Context, store *Store, options *MirrorOptions) (*Mirrored, error) {
	return r.mirror(ctx, store.handle, options, func(remote *C.lxi_remote, target *handlePointer, given *C.lxi_mirror_options, found **C.lxi_mirrored, told **C.lxi_error) C.lxi_status {
		return C.lxi_mirror_to_store(remote, (*C.lxi_store)(target.ptr), given, found, told)
	})
}

// MirrorToTree makes a static tree equal to a remote, with the products, versions and aliases of a simplestreams server. Errors: as
// [Remote.MirrorToStore]; [ErrBusy] while another process writes into the tree.
func (r *Remote) MirrorToTree(ctx context.Context, tree *Tree, options *MirrorOptions) (*Mirrored, error) {
	return r.mirror(ctx, tree.handle, options, func(remote *C.lxi_remote, target *handlePointer, given *C.lxi_mirror_options, found **C.lxi_mirrored, told **C.lxi_error) C.lxi_status {
		return C.lxi_mirror_to_tree(remote, (*C.lxi_tree)(target.ptr), given, found, told)
	})
}

func (r *Remote) mirror(ctx context.Context, target *handle, options *MirrorOptions, run func(*C.lxi_remote, *handlePointer, *C.lxi_mirror_options, **C.lxi_mirrored, **C.lxi_error) C.lxi_status) (*Mirrored, error) {
	ptr, err := target.acquire()
	if err != nil {
		return nil, err
	}
	defer target.release()
	var done *Mirrored
	err = r.use(ctx, func(c *call, remote *C.lxi_remote) error {
		given := one[C.lxi_mirror_options](&c.arena)
		given.size = C.sizeof_lxi_mirror_options
		given.monitor = c.monitor
		if options != nil {
			if options.Delete {
				given.flags |= C.LXI_MIRROR_DELETE
			}
			given.filters, given.filters_len = c.strs(options.Filters)
		}
		var found *C.lxi_mirrored
		var told *C.lxi_error
		if err := c.check(run(remote, &handlePointer{ptr}, given, &found, &told), told); err != nil {
			return err
		}
		defer C.lxi_mirrored_free(found)
		var err error
		done, err = toMirrored(found)
		return err
	})
	return done, err
}

func toMirrored(found *C.lxi_mirrored) (*Mirrored, error) {
	info := C.lxi_mirrored_info{size: C.sizeof_lxi_mirrored_info}
	var told *C.lxi_error
	if err := check(C.lxi_mirrored_get(found, &info, &told), told); err != nil {
		return nil, err
	}
	done := &Mirrored{Kept: int(info.kept), Failed: map[Fingerprint]error{}}
	for i := C.size_t(0); i < info.copied; i++ {
		var image *C.lxi_stored_image
		if err := check(C.lxi_mirrored_copied_at(found, i, &image, &told), told); err != nil {
			return nil, err
		}
		copied, err := toStoredImage(image)
		if err != nil {
			return nil, err
		}
		done.Copied = append(done.Copied, copied)
	}
	var of C.lxi_fingerprint
	for i := C.size_t(0); i < info.removed; i++ {
		if err := check(C.lxi_mirrored_removed_at(found, i, &of, &told), told); err != nil {
			return nil, err
		}
		done.Removed = append(done.Removed, toFingerprint(&of))
	}
	for i := C.size_t(0); i < info.failed; i++ {
		why := C.lxi_error_info{size: C.sizeof_lxi_error_info}
		if err := check(C.lxi_mirrored_failed_at(found, i, &of, &why, &told), told); err != nil {
			return nil, err
		}
		done.Failed[toFingerprint(&of)] = toError(&why)
	}
	return done, nil
}
