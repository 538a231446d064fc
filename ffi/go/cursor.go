package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"unsafe"
)

// ImageQuery says which images of a store, and in which order. Nil, or the zero value: all, in the order of their fingerprints.
// All conditions must hold. An index of the catalog serves all of them but Filters.
type ImageQuery struct {
	// Public asks for public images only, or for private ones only; nil for both.
	Public *bool
	// Cached asks for cached images only, or for others only; nil for both.
	Cached *bool
	// AutoUpdate asks for images only that follow a source.
	AutoUpdate bool
	// ByAlias sorts by the first alias, then by fingerprint; those without an alias come last.
	ByAlias bool
	// Type is container or virtual machine; 0 for both.
	Type Type
	// Architecture is any name of the machine; empty for all.
	Architecture string
	// Prefix is how the fingerprint begins, at least four digits; empty for all.
	Prefix string
	// Properties must all be there, each with this value.
	Properties Properties
	// Filters are those of [Store.List]. Each row is looked at.
	Filters []string
	// Page is how many rows are read at once, up to 10,000; 0 for 1,000. Bounds the memory of the cursor.
	Page uint32
}

// Images is a position in a list of images, of a store or of a remote: they come one at a time, so that a long list is never in
// memory. Used as the rows of database/sql:
//
//	images, err := store.Query(nil)
//	…
//	defer images.Close()
//	for images.Next(ctx) {
//		fmt.Println(images.Image().Fingerprint)
//	}
//	return images.Err()
//
// It belongs to one goroutine at a time, and depends on nothing that it was made of.
type Images struct {
	handle *handle
	image  *StoredImage
	err    error
}

// Next goes to the next image. False at the end, and after an error, which [Images.Err] gives. A row that can't be read is an
// omission of the context ([WithOmissions]), and hides no other.
func (i *Images) Next(ctx context.Context) bool {
	i.image = nil
	if i.err != nil {
		return false
	}
	i.image, i.err = i.next(ctx)
	return i.image != nil
}

func (i *Images) next(ctx context.Context) (*StoredImage, error) {
	ptr, done, err := i.handle.write()
	if err != nil {
		return nil, err
	}
	defer done()
	c := begin(ctx)
	defer c.end()
	var image *C.lxi_stored_image
	var told *C.lxi_error
	if err := c.check(C.lxi_image_cursor_next((*C.lxi_image_cursor)(ptr), c.monitor, &image, &told), told); err != nil {
		return nil, err
	}
	if image == nil {
		return nil, nil
	}
	return toStoredImage(image)
}

// Image is the image that Next went to.
func (i *Images) Image() *StoredImage {
	return i.image
}

// Err is why Next returned false, or nil at the end: [ErrMalformed] when the catalog is damaged, [ErrCancelled], [ErrIO].
func (i *Images) Err() error {
	return i.err
}

// Close frees the cursor. It never fails.
func (i *Images) Close() error {
	i.handle.close()
	return nil
}

func ownImages(cursor *C.lxi_image_cursor) *Images {
	return &Images{handle: own("list of images", unsafe.Pointer(cursor), func() { C.lxi_image_cursor_free(cursor) })}
}

func (c *call) imageQuery(query *ImageQuery) *C.lxi_image_query {
	given := one[C.lxi_image_query](&c.arena)
	given.size = C.sizeof_lxi_image_query
	if query == nil {
		return given
	}
	given.flags = flags(
		flag{query.Public != nil && *query.Public, C.LXI_QUERY_PUBLIC},
		flag{query.Public != nil && !*query.Public, C.LXI_QUERY_PRIVATE},
		flag{query.Cached != nil && *query.Cached, C.LXI_QUERY_CACHED},
		flag{query.Cached != nil && !*query.Cached, C.LXI_QUERY_KEPT},
		flag{query.AutoUpdate, C.LXI_QUERY_AUTO_UPDATE},
		flag{query.ByAlias, C.LXI_QUERY_BY_ALIAS},
	)
	given.image_type = C.lxi_image_type(query.Type)
	given.page = C.uint32_t(query.Page)
	given.architecture = c.str(query.Architecture)
	given.prefix = c.str(query.Prefix)
	given.properties, given.properties_len = c.pairs(query.Properties)
	given.filters, given.filters_len = c.strs(query.Filters)
	return given
}

// Query begins a list of images, which is read page by page. Errors: [ErrInvalidInput] for a condition that is none.
func (s *Store) Query(query *ImageQuery) (*Images, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	var cursor *C.lxi_image_cursor
	var told *C.lxi_error
	if err := c.check(C.lxi_store_query(store, c.imageQuery(query), &cursor, &told), told); err != nil {
		return nil, err
	}
	return ownImages(cursor), nil
}

// Totals counts the images that a query means, and the bytes of their files. Errors: [ErrInvalidInput] for a condition that is none and
// for filters, which only a list applies; [ErrMalformed] when the catalog is damaged; [ErrIO].
func (s *Store) Totals(query *ImageQuery) (images, bytes uint64, err error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return 0, 0, err
	}
	defer end()
	var count, size C.uint64_t
	var told *C.lxi_error
	err = c.check(C.lxi_store_totals(store, c.imageQuery(query), &count, &size, &told), told)
	return uint64(count), uint64(size), err
}

// DeleteUnchanged removes an image and its aliases, if nobody changed it since it was looked up. Errors: [ErrNotFound], [ErrMismatch] when
// it was changed, [ErrBusy], [ErrIO].
func (s *Store) DeleteUnchanged(image *StoredImage) error {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	of := image.Fingerprint.c()
	var told *C.lxi_error
	return c.check(C.lxi_store_delete_unchanged(store, &of, str(image.ETag), &told), told)
}
