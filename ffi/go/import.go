package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"time"
)

// ImportOptions say how an image is imported. Nil, or the zero value: a private image without an alias, described by its own
// metadata.
type ImportOptions struct {
	// Aliases are those that it gets.
	Aliases []Alias
	// ReuseAliases moves aliases that are taken to the new image, instead of that being an error.
	ReuseAliases bool
	// AddAliases gives an image that is there already the aliases, instead of that being an error.
	AddAliases bool
	// ReplaceImages deletes an image that loses its last alias to it, unless it is to be kept.
	ReplaceImages bool
	// Public lets clients that have not authenticated read it.
	Public bool
	// AutoUpdate makes it follow its source, which must be given.
	AutoUpdate bool
	// Cached: it comes as a side effect of being used, and goes when it is no longer used.
	Cached bool
	// Properties win over the image's own, and survive a refresh.
	Properties Properties
	// SourceProperties are those that the image's source tells: they win over the image's own, and a refresh brings newer ones.
	SourceProperties Properties
	// ExpectedFingerprint is the fingerprint that it must have, or nil.
	ExpectedFingerprint *Fingerprint
	// ExpiresAt is when it may be removed; wins over the image's own date. Zero if that is not said.
	ExpiresAt time.Time
	// FileName is the name that its file is exported under. Refused unless it is a plain name.
	FileName string
	// Source is where it comes from, or nil.
	Source *UpdateSource
	// Statements about the image are kept beside it, and the policy of the store may demand them.
	Statements []Statement
}

// importOptions makes arguments; what they borrow is given back by the returned function.
func (c *call) importOptions(options *ImportOptions) (*C.lxi_import_options, func(), error) {
	given := one[C.lxi_import_options](&c.arena)
	given.size = C.sizeof_lxi_import_options
	given.monitor = c.monitor
	if options == nil {
		return given, func() {}, nil
	}
	statements, err := parsed(options.Statements)
	if err != nil {
		return nil, nil, err
	}
	given.statements = statements
	given.flags = flags(
		flag{options.ReuseAliases, C.LXI_IMPORT_REUSE_ALIASES},
		flag{options.AddAliases, C.LXI_IMPORT_ADD_ALIASES},
		flag{options.ReplaceImages, C.LXI_IMPORT_REPLACE_IMAGES},
		flag{options.Public, C.LXI_IMPORT_PUBLIC},
		flag{options.AutoUpdate, C.LXI_IMPORT_AUTO_UPDATE},
		flag{options.Cached, C.LXI_IMPORT_CACHED},
	)
	given.aliases, given.aliases_len = c.aliases(options.Aliases)
	given.properties, given.properties_len = c.pairs(options.Properties)
	given.source_properties, given.source_properties_len = c.pairs(options.SourceProperties)
	given.expected_fingerprint = c.fingerprint(options.ExpectedFingerprint)
	given.expires_at = seconds(options.ExpiresAt)
	given.file_name = c.str(options.FileName)
	if source := options.Source; source != nil {
		said := one[C.lxi_update_source](&c.arena)
		said.size = C.sizeof_lxi_update_source
		said.server = c.str(source.Server)
		said.protocol = c.str(source.Protocol)
		said.alias = c.str(source.Alias)
		said.certificate = c.str(source.Certificate)
		said.image_type = C.lxi_image_type(source.Type)
		given.source = said
	}
	return given, func() { C.lxi_statements_free(statements) }, nil
}

// Import brings an image in: its bytes are copied into the store's own file system, hashed and verified, and become visible with
// all that the options say in one step. A cached image that is imported on purpose becomes a published one.
//
// Errors: [ErrAlreadyExists] for an image that is there, or an alias that is taken; [ErrMismatch] for another fingerprint than the
// expected one; those of verifying an image; [ErrInvalidInput] for an alias that is none or an architecture that is not
// known; [ErrBusy]; [ErrCancelled]; [ErrIO]. The store is as it was.
func (s *Store) Import(ctx context.Context, source Source, options *ImportOptions) (*StoredImage, error) {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return nil, err
	}
	defer end()
	first, second, closing, err := c.source(source)
	if err != nil {
		return nil, err
	}
	defer closing()
	given, done, err := c.importOptions(options)
	if err != nil {
		c.unused(first, second)
		return nil, err
	}
	defer done()
	var image *C.lxi_stored_image
	var told *C.lxi_error
	if err := c.check(C.lxi_store_import(store, first, second, given, &image, &told), told); err != nil {
		return nil, err
	}
	return toStoredImage(image)
}

// Publish packs a root file system and imports the image in one step: what a container manager does with a stopped instance.
// Errors: those of [Pack] and [Store.Import]; the store is as it was.
func (s *Store) Publish(ctx context.Context, packing PackOptions, options *ImportOptions) (*StoredImage, *Written, error) {
	c, store, end, err := s.begin(ctx)
	if err != nil {
		return nil, nil, err
	}
	defer end()
	pack, done, err := c.packOptions(&packing)
	if err != nil {
		return nil, nil, err
	}
	defer done()
	given, importDone, err := c.importOptions(options)
	if err != nil {
		c.unused(pack.disk)
		return nil, nil, err
	}
	defer importDone()
	var image *C.lxi_stored_image
	var written *C.lxi_written
	var told *C.lxi_error
	status := C.lxi_store_publish(store, pack, given, &image, &written, &told)
	if err := c.check(status, told); err != nil {
		return nil, nil, err
	}
	packed, err := toWritten(written, c.omissions())
	stored, imageErr := toStoredImage(image)
	if err == nil {
		err = imageErr
	}
	return stored, packed, err
}
