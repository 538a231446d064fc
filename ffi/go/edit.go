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
	// Type is that of the image: a container's and a virtual machine's image may share a name.
	Type Type
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
		var of C.lxi_image_type
		if err := check(C.lxi_alias_list_type_at(list, i, &of, &told), told); err != nil {
			return nil, err
		}
		aliases = append(aliases, AliasTarget{Alias{text(alias.name), text(alias.description)}, toFingerprint(&target), Type(of)})
	}
	return aliases, nil
}

// Aliases are all aliases, sorted by name; of a name that two types share the container's comes first. Errors: [ErrMalformed] when the catalog is damaged, [ErrIO].
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

// Alias is one alias and what it points to: the container's, where a container's and a virtual machine's image share the name.
// Errors: [ErrNotFound], [ErrMalformed] when the catalog is damaged, [ErrIO].
func (s *Store) Alias(name string) (*AliasTarget, error) {
	return s.AliasOfType(name, 0)
}

// AliasOfType is one alias of images of a type, or with 0 what [Store.Alias] gives. Errors: as there.
func (s *Store) AliasOfType(name string, of Type) (*AliasTarget, error) {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return nil, err
	}
	defer end()
	var list *C.lxi_alias_list
	var told *C.lxi_error
	if err := c.check(C.lxi_store_alias_of_type(store, str(name), C.lxi_image_type(of), &list, &told), told); err != nil {
		return nil, err
	}
	aliases, err := toAliases(list)
	if err != nil {
		return nil, err
	}
	return &aliases[0], nil
}

// CreateAlias makes an alias for images of the target's type. Errors: [ErrInvalidInput] for a name that can't be one, [ErrAlreadyExists] when it is taken, [ErrNotFound]
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

// MoveAlias points an alias of images of the target's type to another image, and describes it anew, whether or not it is there. Errors: [ErrInvalidInput] for a
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

// RenameAlias gives an alias another name: the container's, where a container's and a virtual machine's image share it. Errors:
// [ErrInvalidInput] for a name that can't be one, [ErrNotFound] without the alias, [ErrAlreadyExists] when the new name is taken,
// [ErrBusy], [ErrIO].
func (s *Store) RenameAlias(name, newName string) error {
	return s.RenameAliasOfType(name, newName, 0)
}

// RenameAliasOfType gives an alias of images of a type another name, or with 0 the one that [Store.RenameAlias] renames. Errors: as
// there.
func (s *Store) RenameAliasOfType(name, newName string, of Type) error {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	var told *C.lxi_error
	return c.check(C.lxi_store_rename_alias_of_type(store, str(name), str(newName), C.lxi_image_type(of), &told), told)
}

// DeleteAlias removes an alias: the container's, where a container's and a virtual machine's image share it. The image stays. Errors:
// [ErrNotFound], [ErrBusy], [ErrIO].
func (s *Store) DeleteAlias(name string) error {
	return s.DeleteAliasOfType(name, 0)
}

// DeleteAliasOfType removes an alias of images of a type, or with 0 the one that [Store.DeleteAlias] removes. Errors: as there.
func (s *Store) DeleteAliasOfType(name string, of Type) error {
	c, store, end, err := s.begin(context.Background())
	if err != nil {
		return err
	}
	defer end()
	var told *C.lxi_error
	return c.check(C.lxi_store_delete_alias_of_type(store, str(name), C.lxi_image_type(of), &told), told)
}
