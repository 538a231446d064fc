package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"time"
	"unsafe"
)

// Metadata is the description of an image: its metadata.yaml. Keys that the library does not know, and the order of keys,
// survive reading and writing. It has a Close method.
type Metadata struct {
	handle *handle
}

// MetadataInfo is what a metadata says of the image.
type MetadataInfo struct {
	// Architecture is as the file has it: perhaps an alias (amd64) or an unknown name.
	Architecture string
	// KernelArchitecture is the kernel's name for it (x86_64), empty if it is not known.
	KernelArchitecture string
	// DebianArchitecture is Debian's name for it (amd64), empty if it is not known.
	DebianArchitecture string
	// CreationDate is when the image was made.
	CreationDate time.Time
	// ExpiryDate is when the image may be removed; zero for never.
	ExpiryDate time.Time
	// Properties are names with values, in the order of the file.
	Properties Properties
	// Rules are the template rules, in the order of the file.
	Rules []Rule
}

// Property is a name with a value.
type Property struct {
	Key, Value string
}

// Properties are names with values. Their order is kept.
type Properties []Property

// Get is the value of a property, and whether it is there.
func (p Properties) Get(key string) (string, bool) {
	for _, property := range p {
		if property.Key == key {
			return property.Value, true
		}
	}
	return "", false
}

// Rule is a template rule as it stands in the file: its names and paths may try to climb. Applying checks them.
type Rule struct {
	// Path is the path in the instance.
	Path string
	// Template is the name of the template.
	Template string
	// When are the events: create, copy, rename and start are the ones that exist.
	When []string
	// CreateOnly says that a file that exists already is left alone.
	CreateOnly bool
	// Properties are what the template is given as properties.
	Properties Properties
	// UID and GID are the owner's numbers inside the instance, Mode the permission bits, as text; empty if they are not said.
	// Incus only.
	UID, GID, Mode string
}

// NewRule is a template rule to set.
type NewRule struct {
	// Template is the name of the template, a file below the image's templates/.
	Template string
	// When are the events: create, copy, rename and start are the ones that exist.
	When []string
	// CreateOnly says that a file that exists already is left alone.
	CreateOnly bool
	// Properties are what the template is given as properties.
	Properties Properties
	// Owner is the owner of a new file inside the instance; nil if it is not said. Incus only.
	Owner *Owner
	// Mode is the permission bits of a new file; nil if they are not said. Incus only.
	Mode *uint32
}

// Owner is an owner and a group, as numbers.
type Owner struct {
	UID, GID uint32
}

func ownMetadata(metadata *C.lxi_metadata) *Metadata {
	return &Metadata{own("metadata", unsafe.Pointer(metadata), func() { C.lxi_metadata_free(metadata) })}
}

// ParseMetadata reads a metadata.yaml. Errors: [ErrMalformed] with line, column and key in the message, [ErrLimitExceeded].
func ParseMetadata(yaml []byte, limits *Limits) (*Metadata, error) {
	borrowed, done, err := limits.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	var metadata *C.lxi_metadata
	var told *C.lxi_error
	if err := check(C.lxi_metadata_parse(slice(yaml), borrowed, &metadata, &told), told); err != nil {
		return nil, err
	}
	return ownMetadata(metadata), nil
}

// NewMetadata describes a new image. Errors: [ErrInvalidInput] for an empty architecture, or a creation date of 1970's first second.
func NewMetadata(architecture string, creationDate time.Time) (*Metadata, error) {
	var metadata *C.lxi_metadata
	var told *C.lxi_error
	if err := check(C.lxi_metadata_new(str(architecture), seconds(creationDate), &metadata, &told), told); err != nil {
		return nil, err
	}
	return ownMetadata(metadata), nil
}

// Copy makes a copy that can be changed apart.
func (m *Metadata) Copy() (*Metadata, error) {
	ptr, done, err := m.handle.read()
	if err != nil {
		return nil, err
	}
	defer done()
	var metadata *C.lxi_metadata
	var told *C.lxi_error
	if err := check(C.lxi_metadata_copy((*C.lxi_metadata)(ptr), &metadata, &told), told); err != nil {
		return nil, err
	}
	return ownMetadata(metadata), nil
}

// Info is what the metadata says.
func (m *Metadata) Info() (*MetadataInfo, error) {
	ptr, done, err := m.handle.read()
	if err != nil {
		return nil, err
	}
	defer done()
	metadata := (*C.lxi_metadata)(ptr)
	info := C.lxi_metadata_info{size: C.sizeof_lxi_metadata_info}
	var told *C.lxi_error
	if err := check(C.lxi_metadata_get(metadata, &info, &told), told); err != nil {
		return nil, err
	}
	found := &MetadataInfo{
		Architecture:       text(info.architecture),
		KernelArchitecture: text(info.kernel_architecture),
		DebianArchitecture: text(info.debian_architecture),
		CreationDate:       time.Unix(int64(info.creation_date), 0).UTC(),
		ExpiryDate:         moment(info.expiry_date),
	}
	var key, value C.lxi_str
	for i := C.size_t(0); i < info.properties; i++ {
		if err := check(C.lxi_metadata_property_at(metadata, i, &key, &value, &told), told); err != nil {
			return nil, err
		}
		found.Properties = append(found.Properties, Property{text(key), text(value)})
	}
	for i := C.size_t(0); i < info.rules; i++ {
		rule, err := ruleAt(metadata, i)
		if err != nil {
			return nil, err
		}
		found.Rules = append(found.Rules, *rule)
	}
	return found, nil
}

func ruleAt(metadata *C.lxi_metadata, index C.size_t) (*Rule, error) {
	info := C.lxi_rule_info{size: C.sizeof_lxi_rule_info}
	var told *C.lxi_error
	if err := check(C.lxi_metadata_rule_at(metadata, index, &info, &told), told); err != nil {
		return nil, err
	}
	rule := &Rule{
		Path:       text(info.path),
		Template:   text(info.template_name),
		CreateOnly: bool(info.create_only),
		UID:        text(info.uid),
		GID:        text(info.gid),
		Mode:       text(info.mode),
	}
	var key, value C.lxi_str
	for i := C.size_t(0); i < info.when; i++ {
		if err := check(C.lxi_metadata_rule_when_at(metadata, index, i, &key, &told), told); err != nil {
			return nil, err
		}
		rule.When = append(rule.When, text(key))
	}
	for i := C.size_t(0); i < info.properties; i++ {
		if err := check(C.lxi_metadata_rule_property_at(metadata, index, i, &key, &value, &told), told); err != nil {
			return nil, err
		}
		rule.Properties = append(rule.Properties, Property{text(key), text(value)})
	}
	return rule, nil
}

// Property is the value of a property. Errors: [ErrNotFound].
func (m *Metadata) Property(key string) (string, error) {
	ptr, done, err := m.handle.read()
	if err != nil {
		return "", err
	}
	defer done()
	var value C.lxi_str
	var told *C.lxi_error
	if err := check(C.lxi_metadata_property((*C.lxi_metadata)(ptr), str(key), &value, &told), told); err != nil {
		return "", err
	}
	return text(value), nil
}

// change makes one change.
func (m *Metadata) change(by func(*C.lxi_metadata, **C.lxi_error) C.lxi_status) error {
	ptr, done, err := m.handle.write()
	if err != nil {
		return err
	}
	defer done()
	var told *C.lxi_error
	status := by((*C.lxi_metadata)(ptr), &told)
	return check(status, told)
}

// SetArchitecture names another architecture. Errors: [ErrInvalidInput] for an empty name, or one with a NUL.
func (m *Metadata) SetArchitecture(architecture string) error {
	return m.change(func(metadata *C.lxi_metadata, told **C.lxi_error) C.lxi_status {
		return C.lxi_metadata_set_architecture(metadata, str(architecture), told)
	})
}

// SetCreationDate changes when the image was made. Errors: [ErrInvalidInput] for the zero time.
func (m *Metadata) SetCreationDate(at time.Time) error {
	return m.change(func(metadata *C.lxi_metadata, told **C.lxi_error) C.lxi_status {
		return C.lxi_metadata_set_creation_date(metadata, seconds(at), told)
	})
}

// SetExpiryDate changes when the image may be removed; the zero time for never.
func (m *Metadata) SetExpiryDate(at time.Time) error {
	return m.change(func(metadata *C.lxi_metadata, told **C.lxi_error) C.lxi_status {
		return C.lxi_metadata_set_expiry_date(metadata, seconds(at), told)
	})
}

// SetProperty sets a property in its place, or adds it at the end. Errors: [ErrInvalidInput] for a NUL in either text.
func (m *Metadata) SetProperty(key, value string) error {
	return m.change(func(metadata *C.lxi_metadata, told **C.lxi_error) C.lxi_status {
		return C.lxi_metadata_set_property(metadata, str(key), str(value), told)
	})
}

// RemoveProperty removes a property. Errors: [ErrNotFound].
func (m *Metadata) RemoveProperty(key string) error {
	return m.change(func(metadata *C.lxi_metadata, told **C.lxi_error) C.lxi_status {
		return C.lxi_metadata_remove_property(metadata, str(key), told)
	})
}

// SetRule sets the rule for an absolute path in its place, or adds it at the end. Errors: [ErrInvalidInput] for a path that
// is not absolute, an empty name of a template, a NUL in any text.
func (m *Metadata) SetRule(path string, rule NewRule) error {
	var a arena
	defer a.free()
	given := one[C.lxi_rule](&a)
	given.size = C.sizeof_lxi_rule
	given.template_name = a.str(rule.Template)
	given.when, given.when_len = a.strs(rule.When)
	given.properties, given.properties_len = a.pairs(rule.Properties)
	if rule.CreateOnly {
		given.flags |= C.LXI_RULE_CREATE_ONLY
	}
	if rule.Owner != nil {
		given.flags |= C.LXI_RULE_OWNER
		given.uid, given.gid = C.uint32_t(rule.Owner.UID), C.uint32_t(rule.Owner.GID)
	}
	if rule.Mode != nil {
		given.flags |= C.LXI_RULE_MODE
		given.mode = C.uint32_t(*rule.Mode)
	}
	return m.change(func(metadata *C.lxi_metadata, told **C.lxi_error) C.lxi_status {
		return C.lxi_metadata_set_rule(metadata, str(path), given, told)
	})
}

// RemoveRule removes the rule for a path, spelled as in the file. Errors: [ErrNotFound].
func (m *Metadata) RemoveRule(path string) error {
	return m.change(func(metadata *C.lxi_metadata, told **C.lxi_error) C.lxi_status {
		return C.lxi_metadata_remove_rule(metadata, str(path), told)
	})
}

// YAML writes the file anew: the same values always give the same bytes. Where nothing was changed keep the original bytes,
// which the fingerprint covers.
func (m *Metadata) YAML() ([]byte, error) {
	ptr, done, err := m.handle.read()
	if err != nil {
		return nil, err
	}
	defer done()
	var yaml *C.lxi_buffer
	var told *C.lxi_error
	if err := check(C.lxi_metadata_to_yaml((*C.lxi_metadata)(ptr), &yaml, &told), told); err != nil {
		return nil, err
	}
	return taken(yaml)
}

// Close frees the metadata. It never fails.
func (m *Metadata) Close() error {
	m.handle.close()
	return nil
}

// borrow lends a metadata, which may be nil, for a call.
func (m *Metadata) borrow() (*C.lxi_metadata, func(), error) {
	if m == nil {
		return nil, func() {}, nil
	}
	ptr, done, err := m.handle.read()
	return (*C.lxi_metadata)(ptr), done, err
}
