package lxdimage

// #include <lxd_image.h>
import "C"

import (
	"encoding/json"
	"strconv"
	"time"
	"unsafe"
)

// Dialect is whose templates they are.
type Dialect uint32

// The dialects of templates.
const (
	// DialectLXD is pongo2 4, as LXD uses it.
	DialectLXD Dialect = C.LXI_DIALECT_LXD
	// DialectIncus is pongo2 6, as Incus uses it.
	DialectIncus Dialect = C.LXI_DIALECT_INCUS
)

// TemplateContext are what a template is rendered with. Rendering does not change them, so that goroutines may share them. They
// have a Close method.
type TemplateContext struct {
	handle *handle
}

// Instance is what LXD and Incus tell templates of an instance.
type Instance struct {
	// Name is the instance's.
	Name string
	// Type is the instance's.
	Type Type
	// Architecture is the kernel's name of it.
	Architecture string
	// Privileged and Ephemeral are what they are called.
	Privileged, Ephemeral bool
	// Config is the instance's configuration, for config and config_get.
	Config map[string]string
	// Devices are the instance's devices with their configuration.
	Devices map[string]map[string]string
}

// TemplateContext makes them as LXD and Incus name them: container, instance, config, config_get, devices.
func (i Instance) Context() (*TemplateContext, error) {
	orEmpty := func(config map[string]string) map[string]string {
		if config == nil {
			return map[string]string{}
		}
		return config
	}
	devices := map[string]map[string]string{}
	for name, config := range i.Devices {
		devices[name] = orEmpty(config)
	}
	text, err := json.Marshal(map[string]any{
		"container": map[string]string{
			"name":         i.Name,
			"type":         i.Type.String(),
			"architecture": i.Architecture,
			"privileged":   strconv.FormatBool(i.Privileged),
			"ephemeral":    strconv.FormatBool(i.Ephemeral),
		},
		"config":  orEmpty(i.Config),
		"devices": devices,
	})
	if err != nil {
		return nil, kindError(ErrInvalidInput, "the instance can't be written as JSON: "+err.Error(), err)
	}
	return TemplateContextFromJSON(text)
}

// TemplateContextFromJSON makes variables from a JSON object with the names that LXD and Incus give to templates:
//
//	{ "container": { "name": "c1", "type": "container", "architecture": "x86_64",
//	                 "privileged": "false", "ephemeral": "false" },
//	  "config":    { "user.fqdn": "c1.example.org" },
//	  "devices":   { "eth0": { "type": "nic" } } }
//
// container (or instance) stands for both of them, config for config_get too. trigger, path and properties may be given;
// [Apply] sets them for each rule. Names that are not given are there and empty. Any other name becomes a variable: numbers,
// truth values, texts, lists and maps are what they look like, and an object with the one key $int, $float (a text with
// the number) or $bytes (base64) is what JSON can't say. Errors: [ErrMalformed], [ErrLimitExceeded] above 16 MiB.
func TemplateContextFromJSON(text []byte) (*TemplateContext, error) {
	var variables *C.lxi_template_context
	var told *C.lxi_error
	return ownTemplateContext(&variables, check(C.lxi_template_context_from_json(slice(text), &variables, &told), told))
}

// TemplateContextFromVariables makes variables from a JSON object, and nothing else in it. Values and errors are as in [TemplateContextFromJSON];
// only trigger is made as LXD makes it, devices is a map of devices, and $config gives config and config_get.
func TemplateContextFromVariables(text []byte) (*TemplateContext, error) {
	var variables *C.lxi_template_context
	var told *C.lxi_error
	return ownTemplateContext(&variables, check(C.lxi_template_context_from_variables(slice(text), &variables, &told), told))
}

func ownTemplateContext(made **C.lxi_template_context, err error) (*TemplateContext, error) {
	if err != nil {
		return nil, err
	}
	variables := *made
	return &TemplateContext{own("set of variables", unsafe.Pointer(variables), func() { C.lxi_template_context_free(variables) })}, nil
}

// SetNow says what time {% now %} shows, in UTC. Without it, it is the clock's. Errors: [ErrInvalidInput] for a time that no
// clock of this machine can show.
func (v *TemplateContext) SetNow(now time.Time) error {
	ptr, done, err := v.handle.write()
	if err != nil {
		return err
	}
	defer done()
	var told *C.lxi_error
	return check(C.lxi_template_context_set_now((*C.lxi_template_context)(ptr), C.int64_t(now.Unix()), &told), told)
}

// Close frees the variables. It never fails.
func (v *TemplateContext) Close() error {
	v.handle.close()
	return nil
}

// Template is a parsed template. It has a Close method.
type Template struct {
	handle *handle
}

// TemplateOptions say how a template is parsed. Nil, or the zero value: as LXD parses the templates of an image.
type TemplateOptions struct {
	// Dialect is whose template it is.
	Dialect Dialect
	// Raw parses as pongo2 itself does, with autoescape on.
	Raw bool
	// Limits are what the template may ask for.
	Limits *Limits
}

// Warning is something in a template that is allowed, yet surely not meant.
type Warning struct {
	// Message is one sentence.
	Message string
	// Line and Column (in bytes) count from 1.
	Line, Column int
}

// ParseTemplate parses a template. Errors, which tell where: [ErrTemplate] if it is not well formed or asks for another file,
// [ErrLimitExceeded] if it nests too deep or chains too much.
func ParseTemplate(source []byte, options *TemplateOptions) (*Template, error) {
	if options == nil {
		options = &TemplateOptions{}
	}
	limits, done, err := options.Limits.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	var flags C.uint32_t
	if options.Raw {
		flags |= C.LXI_TEMPLATE_RAW
	}
	var parsed *C.lxi_template
	var told *C.lxi_error
	status := C.lxi_template_parse(slice(source), C.lxi_dialect(options.Dialect), flags, limits, &parsed, &told)
	if err := check(status, told); err != nil {
		return nil, err
	}
	return &Template{own("template", unsafe.Pointer(parsed), func() { C.lxi_template_free(parsed) })}, nil
}

// Render renders it. It takes no context, and needs none: the limits of templates bound how long it takes, whatever the template asks for. Errors, which tell where: [ErrTemplate] if it asks for what can't be, [ErrLimitExceeded] if it writes,
// works or nests too much.
func (t *Template) Render(variables *TemplateContext, limits *Limits) ([]byte, error) {
	ptr, err := t.handle.acquire()
	if err != nil {
		return nil, err
	}
	defer t.handle.release()
	given, done, err := variables.borrow()
	if err != nil {
		return nil, err
	}
	defer done()
	borrowed, limitsDone, err := limits.borrow()
	if err != nil {
		return nil, err
	}
	defer limitsDone()
	var text *C.lxi_buffer
	var told *C.lxi_error
	if err := check(C.lxi_template_render((*C.lxi_template)(ptr), given, borrowed, &text, &told), told); err != nil {
		return nil, err
	}
	return taken(text)
}

// Warnings are in the order of the source.
func (t *Template) Warnings() ([]Warning, error) {
	ptr, err := t.handle.acquire()
	if err != nil {
		return nil, err
	}
	defer t.handle.release()
	var warnings []Warning
	for {
		warning := C.lxi_warning{size: C.sizeof_lxi_warning}
		if C.lxi_template_warning_at((*C.lxi_template)(ptr), C.size_t(len(warnings)), &warning, nil) != C.LXI_OK {
			return warnings, nil
		}
		warnings = append(warnings, Warning{text(warning.message), int(warning.line), int(warning.column)})
	}
}

// Close frees the template. It never fails.
func (t *Template) Close() error {
	t.handle.close()
	return nil
}

// borrow lends variables for a call.
func (v *TemplateContext) borrow() (*C.lxi_template_context, func(), error) {
	if v == nil {
		return nil, nil, kindError(ErrInvalidInput, "the variables are nil", nil)
	}
	ptr, done, err := v.handle.read()
	return (*C.lxi_template_context)(ptr), done, err
}
