package lxdimage_test

// Steps about fingerprints, metadata and images.

import (
	"context"
	"errors"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing/iotest"
	"time"

	"lxdimage"
)

var background = context.Background()

func (r *runner) showMetadata(metadata *lxdimage.Metadata) {
	defer metadata.Close()
	info, err := metadata.Info()
	r.must(err)
	r.line("architecture %s kernel %s debian %s", quote(info.Architecture), quote(info.KernelArchitecture), quote(info.DebianArchitecture))
	r.line("created %d expires %d", info.CreationDate.Unix(), unix(info.ExpiryDate))
	for _, property := range info.Properties {
		value, err := metadata.Property(property.Key)
		if err != nil || value != property.Value {
			r.t.Fatalf("a property is not found by its name: %v", err)
		}
		r.line("property %s %s", quote(property.Key), quote(property.Value))
	}
	for _, rule := range info.Rules {
		r.line("rule %s %s create_only %s uid %s gid %s mode %s", quote(rule.Path), quote(rule.Template), yes(rule.CreateOnly), quote(rule.UID), quote(rule.GID), quote(rule.Mode))
		for _, event := range rule.When {
			r.line("when %s", quote(event))
		}
		for _, property := range rule.Properties {
			r.line("set %s %s", quote(property.Key), quote(property.Value))
		}
	}
	yaml, err := metadata.YAML()
	r.must(err)
	r.line("yaml %s", quote(string(yaml)))
}

func unix(t time.Time) int64 {
	if t.IsZero() {
		return 0
	}
	return t.Unix()
}

// files opens one file or two, without their names: a store would remember those.
func (r *runner) files(names []string) (lxdimage.Source, func()) {
	var files []*os.File
	for _, name := range names {
		fd, err := syscall.Open(name, syscall.O_RDONLY|syscall.O_CLOEXEC, 0)
		r.must(err)
		files = append(files, os.NewFile(uintptr(fd), ""))
	}
	closing := func() {
		for _, file := range files {
			file.Close()
		}
	}
	if len(files) == 2 {
		return lxdimage.Split(lxdimage.File(files[0]), lxdimage.File(files[1])), closing
	}
	return lxdimage.Unified(lxdimage.File(files[0])), closing
}

// open opens an image; nil after an error was shown.
func (r *runner) open(names ...string) *lxdimage.Image {
	source, closing := r.files(names)
	image, err := lxdimage.Open(source, r.limits)
	// They are borrowed: the image has its own.
	closing()
	if r.failed(err) {
		return nil
	}
	return image
}

func (r *runner) showVerification(v *lxdimage.VerifyReport, all bool) {
	defer v.Close()
	r.line("fingerprint %s", v.Fingerprint)
	r.line("type %s", v.Type)
	if v.Metadata != nil {
		info, err := v.Metadata.Info()
		r.must(err)
		r.line("metadata %s", quote(info.Architecture))
	} else {
		r.line("metadata -")
	}
	if !all {
		return
	}
	r.line("files %d directories %d symlinks %d hard_links %d devices %d others %d bytes %d", v.Files, v.Directories, v.Symlinks, v.HardLinks, v.Devices, v.Others, v.ContentBytes)
	for _, name := range v.Templates {
		r.line("template %s", quote(name))
	}
	for _, path := range v.Strays {
		r.line("stray %s", quote(path))
	}
	for _, finding := range v.Findings {
		r.line("finding %s", kind(finding))
	}
}

// stream verifies what readers give, 7 bytes at a time.
func (r *runner) stream(names []string) {
	var inputs []lxdimage.Input
	for _, name := range names {
		file, err := os.Open(name)
		r.must(err)
		defer file.Close()
		inputs = append(inputs, lxdimage.Reader(iotest.DataErrReader(&trickle{file})))
	}
	source := lxdimage.Unified(inputs[0])
	if len(inputs) == 2 {
		source = lxdimage.Split(inputs[0], inputs[1])
	}
	image, err := lxdimage.Open(source, r.limits)
	if r.failed(err) {
		return
	}
	defer image.Close()
	verification, err := image.Verify(r.ctx, nil)
	if !r.failed(err) {
		r.line("fingerprint %s", verification.Fingerprint)
		verification.Close()
	}
}

type trickle struct {
	from io.Reader
}

func (t *trickle) Read(buffer []byte) (int, error) {
	return t.from.Read(buffer[:min(7, len(buffer))])
}

func (r *runner) unpack(words []string) {
	image := r.open(words[3:]...)
	if image == nil {
		return
	}
	defer image.Close()
	expected, ok := r.fingerprint(words[1])
	if !ok {
		return
	}
	var unpacked *lxdimage.Unpacked
	var err error
	if expected != nil {
		unpacked, err = image.Unpack(r.ctx, words[2], *expected, nil)
	} else {
		unpacked, err = image.UnpackUnverified(r.ctx, words[2], nil)
	}
	if !r.failed(err) {
		r.line("entries %d bytes %d", unpacked.Entries, unpacked.Bytes)
		unpacked.Close()
	}
}

func (r *runner) stage(words []string) {
	image := r.open(words[4:]...)
	if image == nil {
		return
	}
	defer image.Close()
	staged, err := image.Stage(r.ctx, words[2], nil)
	if r.failed(err) {
		return
	}
	defer staged.Close()
	expected, ok := r.fingerprint(words[1])
	if !ok {
		return
	}
	if _, err := staged.Commit(words[3]); !errors.Is(err, lxdimage.ErrInvalidInput) {
		r.t.Fatalf("what nobody verified was committed: %v", err)
	}
	if expected != nil {
		err = staged.Verify(*expected)
	} else {
		err = staged.AcceptUnverified()
	}
	if r.failed(err) {
		return
	}
	unpacked, err := staged.Commit(words[3])
	if !r.failed(err) {
		r.line("%s", quote(filepath.Base(unpacked.Path)))
		unpacked.Close()
	}
}

func (r *runner) convert(words []string) {
	var options lxdimage.ConvertOptions
	switch words[1] {
	case "split":
		options.Form = lxdimage.FormSplit
	case "unified":
		options.Form = lxdimage.FormUnified
	}
	switch words[2] {
	case "squashfs":
		options.RootfsFormat = lxdimage.RootfsSquashFS
	case "tar":
		options.RootfsFormat = lxdimage.RootfsTar
	}
	if words[3] != "-" {
		options.Compression = words[3]
	}
	image := r.open(words[5:]...)
	if image == nil {
		return
	}
	defer image.Close()
	written, err := image.Convert(r.ctx, words[4], &options)
	if !r.failed(err) && words[3] == "none" {
		r.line("fingerprint %s", written.Fingerprint)
	}
}

func (r *runner) differences(words []string) {
	first, second := r.open(words[1]), r.open(words[2])
	defer first.Close()
	defer second.Close()
	found, err := lxdimage.Differences(r.ctx, first, second, nil)
	if r.failed(err) {
		return
	}
	kinds := map[lxdimage.DifferenceKind]string{
		lxdimage.DifferenceOnlyInFirst:  "first",
		lxdimage.DifferenceOnlyInSecond: "second",
		lxdimage.DifferenceChanged:      "changed",
	}
	for _, difference := range found {
		line := kinds[difference.Kind] + " " + quote(difference.Path)
		for _, attribute := range difference.Attributes {
			line += " " + attribute.Name
		}
		r.line("%s", line)
	}
}

func (r *runner) look(names []string) {
	image := r.open(names...)
	if image == nil {
		return
	}
	defer image.Close()
	info, err := image.Info()
	r.must(err)
	dash := func(text string) string {
		if text == "" {
			return "-"
		}
		return text
	}
	r.line("form %s container %s codec %s", info.Form, info.Container, dash(info.Codec))
	if info.RootfsContainer != "" {
		r.line("rootfs %s codec %s", info.RootfsContainer, dash(info.RootfsCodec))
	}
}

func (r *runner) build(words []string) {
	date, err := strconv.ParseInt(words[2], 10, 64)
	r.must(err)
	metadata, err := lxdimage.NewMetadata(words[1], time.Unix(date, 0))
	if r.failed(err) {
		return
	}
	for _, pair := range words[3:] {
		equals := strings.IndexByte(pair, '=')
		if r.failed(metadata.SetProperty(pair[:equals], pair[equals+1:])) {
			metadata.Close()
			return
		}
	}
	r.showMetadata(metadata)
}

func (r *runner) entries(names []string) {
	image := r.open(names...)
	if image == nil {
		return
	}
	defer image.Close()
	verification, err := image.Survey(r.ctx, nil, func(entry *lxdimage.Entry) error {
		r.line("%c %s %04o %d:%d %d %s", "?-dlhcbps"[entry.Kind], quote(entry.Path), entry.Mode, entry.UID, entry.GID, entry.Bytes, quote(entry.Target))
		return nil
	})
	if !r.failed(err) {
		verification.Close()
	}
}

func (r *runner) imageStep(words []string) bool {
	switch words[0] {
	case "parse-fingerprint":
		fingerprint, err := lxdimage.ParseFingerprint(words[1])
		if !r.failed(err) {
			r.line("%s", fingerprint)
		}
	case "fingerprint":
		source, closing := r.files(words[1:])
		defer closing()
		fingerprint, err := lxdimage.FingerprintOf(r.ctx, source)
		if !r.failed(err) {
			r.line("%s", fingerprint)
		}
	case "metadata":
		metadata, err := lxdimage.ParseMetadata([]byte(words[1]), r.limits)
		if !r.failed(err) {
			r.showMetadata(metadata)
		}
	case "build":
		r.build(words)
	case "image":
		r.look(words[1:])
	case "image-stream":
		r.stream(words[1:])
	case "image-metadata":
		if image := r.open(words[1:]...); image != nil {
			defer image.Close()
			metadata, err := image.Metadata()
			if !r.failed(err) {
				r.showMetadata(metadata)
			}
		}
	case "image-template":
		if image := r.open(words[2:]...); image != nil {
			defer image.Close()
			source, err := image.Template(words[1])
			if !r.failed(err) {
				r.line("%s", quote(string(source)))
			}
		}
	case "verify":
		if image := r.open(words[1:]...); image != nil {
			defer image.Close()
			verification, err := image.Verify(r.ctx, nil)
			if !r.failed(err) {
				r.showVerification(verification, true)
			}
		}
	case "entries":
		r.entries(words[1:])
	case "unpack":
		r.unpack(words)
	case "stage":
		r.stage(words)
	case "cat":
		content, err := os.ReadFile(words[1])
		if err != nil {
			r.out.WriteString("! NotFound\n")
		} else {
			r.line("%s", quote(string(content)))
		}
	case "exists":
		_, err := os.Lstat(words[1])
		r.line("%s", yes(err == nil))
	case "convert":
		r.convert(words)
	case "pack":
		_, err := lxdimage.Pack(r.ctx, words[4], lxdimage.PackOptions{Tree: words[1], MetadataYAML: []byte(words[2]), Compression: words[3]})
		r.failed(err)
	case "differences":
		r.differences(words)
	default:
		return false
	}
	return true
}
