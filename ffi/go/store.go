package lxdimage

// #include "callbacks.h"
import "C"

import (
	"context"
	"runtime/cgo"
	"time"
	"unsafe"
)

// Store is a store of images. Any number of processes may use one store, and any number of goroutines one value. It has a
// Close method.
type Store struct {
	handle *handle
	clock  *ticker
}

// StoreOptions say how a store is opened. Nil, or the zero value: makes the store if it is not there, and waits five seconds
// for other writers.
type StoreOptions struct {
	// NoCreate makes a store that is not there an error.
	NoCreate bool
	// ReadOnly changes nothing, not even leftovers. Works on a file system that can only be read.
	ReadOnly bool
	// Threads is how many threads decode an image that is verified, at most; 0 for all cores.
	Threads uint32
	// BusyTimeout is how long to wait for other writers before failing with [ErrBusy]; nil: five seconds.
	BusyTimeout *time.Duration
	// Limits hold for images that come in.
	Limits *Limits
	// Clock is where the time comes from, called by any number of goroutines; nil for the machine's clock.
	Clock func() time.Time
	// Policy is what images need before this value makes them visible, whatever brings them: imports, copies, refreshes, caches, uploads to a
	// server of it, new aliases; nil for nothing. An image that is refused fails with [ErrUntrusted].
	Policy *Policy
}

// OpenStore opens the store at path: a directory, or a file in TOML that describes where its parts are ([OpenDescribedStore]). Errors: [ErrNotFound] when it is not there and not to be made; [ErrUnsupported] for a newer
// layout and for a directory of something else; [ErrMalformed] when it is damaged; [ErrBusy]; [ErrIO].
func OpenStore(path string, options *StoreOptions) (*Store, error) {
	return openStore(options, func(given *C.lxi_store_options, store **C.lxi_store, told **C.lxi_error) C.lxi_status {
		return C.lxi_store_open(str(path), given, store, told)
	})
}

// OpenDescribedStore opens a store whose catalog and images are at the addresses that a text in TOML says: catalog is the path of an SQLite
// database or postgresql://USER@HOST/DATABASE, blobs a directory, s3://BUCKET/PREFIX, gs://… or az://…; a table [s3] may have endpoint, region,
// allow_http and path_style, and scratch is a local directory for what arrives. Relative paths start at directory. Credentials come from the
// engines' usual environment variables and files. Errors: those of [OpenStore]; [ErrMalformed] for a text that is no description;
// [ErrFeatureDisabled] for a bucket or a database that the library can't use.
func OpenDescribedStore(description, directory string, options *StoreOptions) (*Store, error) {
	return openStore(options, func(given *C.lxi_store_options, store **C.lxi_store, told **C.lxi_error) C.lxi_status {
		return C.lxi_store_open_described(str(description), str(directory), given, store, told)
	})
}

func openStore(options *StoreOptions, open func(*C.lxi_store_options, **C.lxi_store, **C.lxi_error) C.lxi_status) (*Store, error) {
	c := begin(context.Background())
	defer c.end()
	given, done, err := c.storeOptions(options)
	if err != nil {
		return nil, err
	}
	defer done()
	found := &Store{}
	forget := func() {}
	if options != nil && options.Clock != nil {
		found.clock = &ticker{now: options.Clock}
		c.clock = found.clock
		clock := cgo.NewHandle(found.clock)
		forget = clock.Delete
		C.lxi_go_set_clock(given, C.uintptr_t(clock))
	}
	var store *C.lxi_store
	var told *C.lxi_error
	if err := c.check(open(given, &store, &told), told); err != nil {
		forget()
		return nil, err
	}
	found.handle = own("store", unsafe.Pointer(store), func() {
		C.lxi_store_free(store)
		forget()
	})
	return found, nil
}

// storeOptions makes arguments, but for the clock; what they borrow is given back by the returned function.
func (c *call) storeOptions(options *StoreOptions) (*C.lxi_store_options, func(), error) {
	given := one[C.lxi_store_options](&c.arena)
	given.size = C.sizeof_lxi_store_options
	if options == nil {
		return given, func() {}, nil
	}
	limits, done, err := options.Limits.borrow()
	if err != nil {
		return nil, nil, err
	}
	given.limits = limits
	if options.Policy != nil {
		ptr, policyDone, err := options.Policy.handle.read()
		if err != nil {
			done()
			return nil, nil, err
		}
		given.policy = (*C.lxi_policy)(ptr)
		limitsDone := done
		done = func() {
			policyDone()
			limitsDone()
		}
	}
	given.threads = C.uint32_t(options.Threads)
	if options.NoCreate {
		given.flags |= C.LXI_STORE_NO_CREATE
	}
	if options.ReadOnly {
		given.flags |= C.LXI_STORE_READ_ONLY
	}
	if options.BusyTimeout != nil {
		given.flags |= C.LXI_STORE_BUSY_TIMEOUT
		if wait := options.BusyTimeout.Milliseconds(); wait > 0 {
			given.busy_milliseconds = C.uint64_t(wait)
		}
	}
	return given, done, nil
}

// begin begins a call about the store.
func (s *Store) begin(ctx context.Context) (*call, *C.lxi_store, func(), error) {
	ptr, err := s.handle.acquire()
	if err != nil {
		return nil, nil, nil, err
	}
	c := begin(ctx)
	c.clock = s.clock
	return c, (*C.lxi_store)(ptr), func() {
		defer s.handle.release()
		c.end()
	}, nil
}

// List gives the images that meet all filters, or all images, in the order of their fingerprints. A filter is a word, which
// matches a part of an alias or the beginning of a fingerprint, or key=value, which matches a property or a field. All of them are in
// memory at once: [Store.Query] is for large stores.
// Errors: [ErrInvalidInput] for a filter that is none, [ErrMalformed] when the catalog is damaged, [ErrIO].
func (s *Store) List(filters ...string) ([]*StoredImage, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	given, count := c.strs(filters)
	var list *C.lxi_image_list
	var told *C.lxi_error
	if err := c.check(C.lxi_store_list(store, given, count, &list, &told), told); err != nil {
		return nil, err
	}
	return toImages(list)
}

// toImages copies a list of images, and frees it.
func toImages(list *C.lxi_image_list) ([]*StoredImage, error) {
	defer C.lxi_image_list_free(list)
	var count C.size_t
	var told *C.lxi_error
	if err := check(C.lxi_image_list_len(list, &count, &told), told); err != nil {
		return nil, err
	}
	images := make([]*StoredImage, 0, int(count))
	for i := C.size_t(0); i < count; i++ {
		var image *C.lxi_stored_image
		if err := check(C.lxi_image_list_at(list, i, &image, &told), told); err != nil {
			return nil, err
		}
		found, err := toStoredImage(image)
		if err != nil {
			return nil, err
		}
		images = append(images, found)
	}
	return images, nil
}

// NearMiss is an image that a list left out, and why.
type NearMiss struct {
	// Image is the image.
	Image *StoredImage
	// Reasons are a sentence for each filter that it does not meet.
	Reasons []string
}

// Explain says why images are not in the list that [Store.List] gives for these filters: those that don't meet all of them, the ones that miss fewest
// first. All of them are in memory at once. Errors: as [Store.List].
func (s *Store) Explain(filters ...string) ([]NearMiss, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	given, count := c.strs(filters)
	var misses *C.lxi_near_misses
	var told *C.lxi_error
	if err := c.check(C.lxi_store_explain(store, given, count, &misses, &told), told); err != nil {
		return nil, err
	}
	defer C.lxi_near_misses_free(misses)
	if err := check(C.lxi_near_misses_len(misses, &count, &told), told); err != nil {
		return nil, err
	}
	found := make([]NearMiss, 0, int(count))
	for i := C.size_t(0); i < count; i++ {
		var image *C.lxi_stored_image
		var reasons C.size_t
		if err := check(C.lxi_near_misses_at(misses, i, &image, &reasons, &told), told); err != nil {
			return nil, err
		}
		stored, err := toStoredImage(image)
		if err != nil {
			return nil, err
		}
		miss := NearMiss{Image: stored}
		for j := C.size_t(0); j < reasons; j++ {
			var reason C.lxi_str
			if err := check(C.lxi_near_misses_reason_at(misses, i, j, &reason, &told), told); err != nil {
				return nil, err
			}
			miss.Reasons = append(miss.Reasons, text(reason))
		}
		found = append(found, miss)
	}
	return found, nil
}

// Resolve finds the image that reference names: an alias, a whole fingerprint, or the first digits of exactly one, at least
// four. An alias wins over a fingerprint that begins like it; where a container's and a virtual machine's image share it, the
// container's is meant. Errors: [ErrNotFound], whose hint suggests what is near; [ErrAmbiguous], naming the candidates;
// [ErrMalformed] when the catalog is damaged; [ErrIO].
func (s *Store) Resolve(reference string) (*StoredImage, error) {
	return s.ResolvePreferring(reference, 0)
}

// ResolvePreferring does as [Store.Resolve], with the type that is meant where an image of each shares an alias. Errors: as there.
func (s *Store) ResolvePreferring(reference string, preferred Type) (*StoredImage, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	var image *C.lxi_stored_image
	var told *C.lxi_error
	if err := c.check(C.lxi_store_resolve_preferring(store, str(reference), C.lxi_image_type(preferred), &image, &told), told); err != nil {
		return nil, err
	}
	return toStoredImage(image)
}

// image looks one image up.
func (s *Store) image(c *call, store *C.lxi_store, fingerprint Fingerprint) (*C.lxi_stored_image, error) {
	of := fingerprint.c()
	var image *C.lxi_stored_image
	var told *C.lxi_error
	err := c.check(C.lxi_store_image(store, &of, &image, &told), told)
	return image, err
}

// Image is one image, as it is now. Errors: [ErrNotFound], [ErrMalformed] when the catalog is damaged, [ErrIO].
func (s *Store) Image(fingerprint Fingerprint) (*StoredImage, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	image, err := s.image(c, store, fingerprint)
	if err != nil {
		return nil, err
	}
	return toStoredImage(image)
}

// ImageJSON is one image, as it is now, as the image object of LXD's REST API. Errors: as [Store.Image].
func (s *Store) ImageJSON(fingerprint Fingerprint) ([]byte, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	image, err := s.image(c, store, fingerprint)
	if err != nil {
		return nil, err
	}
	defer C.lxi_stored_image_free(image)
	var json *C.lxi_buffer
	var told *C.lxi_error
	if err := check(C.lxi_stored_image_to_json(image, &json, &told), told); err != nil {
		return nil, err
	}
	return taken(json)
}

// OpenImage opens an image's files to verify, unpack or convert them. They stay readable to the end, also when the image is deleted or
// the store closed. Errors: [ErrNotFound]; [ErrMismatch] when a file is not as long as it was; [ErrMalformed] when one is missing; [ErrIO].
func (s *Store) OpenImage(fingerprint Fingerprint, limits *Limits) (*Image, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	borrowed, done, err := limits.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	of := fingerprint.c()
	var image *C.lxi_image
	var told *C.lxi_error
	if err := c.check(C.lxi_store_open_image(store, &of, borrowed, &image, &told), told); err != nil {
		return nil, err
	}
	return ownImage(image, nil), nil
}

// MarkUsed notes that something was made from the image now: a cached image stays a while longer. Errors: [ErrNotFound], [ErrBusy], [ErrIO].
func (s *Store) MarkUsed(fingerprint Fingerprint) error {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	of := fingerprint.c()
	var told *C.lxi_error
	return c.check(C.lxi_store_mark_used(store, &of, &told), told)
}

// Delete removes an image and its aliases. Who has it open reads on. Works on a full disk. Errors: [ErrNotFound], [ErrBusy], [ErrIO].
func (s *Store) Delete(fingerprint Fingerprint) error {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	of := fingerprint.c()
	var told *C.lxi_error
	return c.check(C.lxi_store_delete(store, &of, &told), told)
}

// Close frees the store, when calls that are under way have ended. It never fails.
func (s *Store) Close() error {
	s.handle.close()
	return nil
}
