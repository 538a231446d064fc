package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"context"
	"time"
)

// Edit is a change to an image of a store. What is nil or empty does not change.
type Edit struct {
	// Public says whether clients that have not authenticated may read it.
	Public *bool
	// AutoUpdate says whether it follows its source.
	AutoUpdate *bool
	// ExpiresAt is when it may be removed; the zero time for never.
	ExpiresAt *time.Time
	// Properties are set.
	Properties Properties
	// ReplaceProperties makes the properties replace all that are there.
	ReplaceProperties bool
	// Remove are names of properties to remove, where they are there.
	Remove []string
	// ETag is the one that the image must still have.
	ETag string
	// Revision is the one that the image must still have.
	Revision *uint64
}

// Edit changes an image, if it still is as the edit says, and returns it as it is then. Errors: [ErrNotFound]; [ErrMismatch] when
// somebody else changed it in between; [ErrInvalidInput]; [ErrBusy]; [ErrIO]. Nothing has changed then.
func (s *Store) Edit(fingerprint Fingerprint, edit Edit) (*StoredImage, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	given := one[C.lxi_edit](&c.arena)
	given.size = C.sizeof_lxi_edit
	choose := func(choice *bool, yes, no C.uint32_t) {
		if choice != nil && *choice {
			given.flags |= yes
		} else if choice != nil {
			given.flags |= no
		}
	}
	choose(edit.Public, C.LXI_EDIT_PUBLIC, C.LXI_EDIT_PRIVATE)
	choose(edit.AutoUpdate, C.LXI_EDIT_AUTO_UPDATE, C.LXI_EDIT_NO_AUTO_UPDATE)
	if edit.ExpiresAt != nil {
		given.flags |= C.LXI_EDIT_EXPIRES_AT
		given.expires_at = seconds(*edit.ExpiresAt)
	}
	if edit.ReplaceProperties {
		given.flags |= C.LXI_EDIT_REPLACE_PROPERTIES
	}
	if edit.Revision != nil {
		given.flags |= C.LXI_EDIT_REVISION
		given.revision = C.uint64_t(*edit.Revision)
	}
	given.properties, given.properties_len = c.pairs(edit.Properties)
	given.remove, given.remove_len = c.strs(edit.Remove)
	given.etag = c.str(edit.ETag)
	of := fingerprint.c()
	var image *C.lxi_stored_image
	var told *C.lxi_error
	if err := c.check(C.lxi_store_edit(store, &of, given, &image, &told), told); err != nil {
		return nil, err
	}
	return toStoredImage(image)
}

// AliasTarget is an alias and what it points to.
type AliasTarget struct {
	Alias
	// Target is the image.
	Target Fingerprint
}

// toAliases copies a list, and frees it.
func toAliases(list *C.lxi_alias_list) ([]AliasTarget, error) {
	defer C.lxi_alias_list_free(list)
	var count C.size_t
	var told *C.lxi_error
	if err := check(C.lxi_alias_list_len(list, &count, &told), told); err != nil {
		return nil, err
	}
	aliases := make([]AliasTarget, 0, int(count))
	for i := C.size_t(0); i < count; i++ {
		var alias C.lxi_alias
		var target C.lxi_fingerprint
		if err := check(C.lxi_alias_list_at(list, i, &alias, &target, &told), told); err != nil {
			return nil, err
		}
		aliases = append(aliases, AliasTarget{Alias{text(alias.name), text(alias.description)}, toFingerprint(&target)})
	}
	return aliases, nil
}

// Aliases are all aliases, sorted by name. Errors: [ErrMalformed] when the catalog is damaged, [ErrIO].
func (s *Store) Aliases() ([]AliasTarget, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	var list *C.lxi_alias_list
	var told *C.lxi_error
	if err := c.check(C.lxi_store_aliases(store, &list, &told), told); err != nil {
		return nil, err
	}
	return toAliases(list)
}

// Alias is one alias and what it points to. Errors: [ErrNotFound], [ErrMalformed] when the catalog is damaged, [ErrIO].
func (s *Store) Alias(name string) (*AliasTarget, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	var list *C.lxi_alias_list
	var told *C.lxi_error
	if err := c.check(C.lxi_store_alias(store, str(name), &list, &told), told); err != nil {
		return nil, err
	}
	aliases, err := toAliases(list)
	if err != nil {
		return nil, err
	}
	return &aliases[0], nil
}

// CreateAlias makes an alias. Errors: [ErrInvalidInput] for a name that can't be one, [ErrAlreadyExists] when it is taken, [ErrNotFound]
// without the image, [ErrBusy], [ErrIO].
func (s *Store) CreateAlias(alias Alias, target Fingerprint) error {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	of := target.c()
	given := C.lxi_alias{name: str(alias.Name), description: str(alias.Description)}
	var told *C.lxi_error
	return c.check(C.lxi_store_create_alias(store, given, &of, &told), told)
}

// MoveAlias points an alias to another image, and describes it anew, whether or not it is there. Errors: [ErrInvalidInput] for a
// name that can't be one, [ErrNotFound] without the image, [ErrBusy], [ErrIO].
func (s *Store) MoveAlias(alias Alias, target Fingerprint) error {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	of := target.c()
	given := C.lxi_alias{name: str(alias.Name), description: str(alias.Description)}
	var told *C.lxi_error
	return c.check(C.lxi_store_move_alias(store, given, &of, &told), told)
}

// RenameAlias gives an alias another name. Errors: [ErrInvalidInput] for a name that can't be one, [ErrNotFound] without the alias,
// [ErrAlreadyExists] when the new name is taken, [ErrBusy], [ErrIO].
func (s *Store) RenameAlias(name, newName string) error {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	var told *C.lxi_error
	return c.check(C.lxi_store_rename_alias(store, str(name), str(newName), &told), told)
}

// DeleteAlias removes an alias. The image stays. Errors: [ErrNotFound], [ErrBusy], [ErrIO].
func (s *Store) DeleteAlias(name string) error {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	var told *C.lxi_error
	return c.check(C.lxi_store_delete_alias(store, str(name), &told), told)
}
