package lxdimage

// #include <lxd_image.h>
import "C"

import "time"

// StoredImage is what a store knew of an image when it was looked up.
type StoredImage struct {
	// Fingerprint names it.
	Fingerprint Fingerprint
	// Type is container or virtual machine.
	Type Type
	// Form is one file or two.
	Form Form
	// Architecture is the kernel's name of the machine that it is for: x86_64.
	Architecture string
	// Bytes is the size of all its files.
	Bytes uint64
	// RootfsBytes is the size of the rootfs file of a split image; else 0.
	RootfsBytes uint64
	// CreatedAt is when it was made, as its metadata says.
	CreatedAt time.Time
	// ExpiresAt is when it may be removed; zero for never.
	ExpiresAt time.Time
	// UploadedAt is when it came into this store.
	UploadedAt time.Time
	// LastUsedAt is when something was last made from it; zero for never.
	LastUsedAt time.Time
	// Revision counts the changes made to it in this store.
	Revision uint64
	// ETag is what an edit may be based on: the one that LXD's REST API gives.
	ETag string
	// FileName is the name that its file came with: of a split image, the metadata's. May be empty.
	FileName string
	// RootfsName is the name that the rootfs file came with. May be empty.
	RootfsName string
	// Source is where newer versions come from, or nil.
	Source *UpdateSource
	// Properties are names with values.
	Properties Properties
	// Aliases point to it, sorted by name.
	Aliases []Alias
	// Public says whether clients that have not authenticated may read it.
	Public bool
	// AutoUpdate says whether it follows its source.
	AutoUpdate bool
	// Cached says whether it came as a side effect of using a remote image, and goes when it is not used.
	Cached bool
}

// UpdateSource is where an image came from and newer versions of it come from.
type UpdateSource struct {
	// Server is the server's address.
	Server string
	// Protocol is how to talk to it: lxd, simplestreams or direct.
	Protocol string
	// Alias is the one that was asked for there.
	Alias string
	// Certificate is the server's in PEM, where it is not signed by a known authority. Only given, never told.
	Certificate string
	// Type is whether a container's or a virtual machine's image is meant by the alias; 0 if that is not said. Only given, never
	// told.
	Type Type
}

// Alias is a name that points to an image.
type Alias struct {
	// Name may hold "/".
	Name string
	// Description is what it is for, in words; may be empty.
	Description string
}

// toStoredImage copies what is known of an image, and frees it.
func toStoredImage(image *C.lxi_stored_image) (*StoredImage, error) {
	defer C.lxi_stored_image_free(image)
	info := C.lxi_stored_image_info{size: C.sizeof_lxi_stored_image_info}
	var told *C.lxi_error
	if err := check(C.lxi_stored_image_get(image, &info, &told), told); err != nil {
		return nil, err
	}
	found := &StoredImage{
		Fingerprint:  toFingerprint(&info.fingerprint),
		Type:         Type(info.image_type),
		Form:         Form(info.form),
		Architecture: text(info.architecture),
		Bytes:        uint64(info.bytes),
		RootfsBytes:  uint64(info.rootfs_bytes),
		CreatedAt:    time.Unix(int64(info.created_at), 0).UTC(),
		ExpiresAt:    moment(info.expires_at),
		UploadedAt:   time.Unix(int64(info.uploaded_at), 0).UTC(),
		LastUsedAt:   moment(info.last_used_at),
		Revision:     uint64(info.revision),
		ETag:         text(info.etag),
		FileName:     text(info.file_name),
		RootfsName:   text(info.rootfs_name),
		Public:       bool(info.is_public),
		AutoUpdate:   bool(info.auto_update),
		Cached:       bool(info.cached),
	}
	if info.source_server.len > 0 {
		found.Source = &UpdateSource{
			Server:   text(info.source_server),
			Protocol: text(info.source_protocol),
			Alias:    text(info.source_alias),
		}
	}
	var key, value C.lxi_str
	for i := C.size_t(0); i < info.properties; i++ {
		if err := check(C.lxi_stored_image_property_at(image, i, &key, &value, &told), told); err != nil {
			return nil, err
		}
		found.Properties = append(found.Properties, Property{text(key), text(value)})
	}
	for i := C.size_t(0); i < info.aliases; i++ {
		if err := check(C.lxi_stored_image_alias_at(image, i, &key, &value, &told), told); err != nil {
			return nil, err
		}
		found.Aliases = append(found.Aliases, Alias{text(key), text(value)})
	}
	return found, nil
}
