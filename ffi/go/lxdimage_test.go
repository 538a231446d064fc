package lxdimage_test

import (
	"archive/tar"
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"runtime"
	"strings"
	"sync"
	"sync/atomic"
	"testing"
	"time"

	"lxdimage"
)

func must[T any](t testing.TB) func(T, error) T {
	return func(value T, err error) T {
		t.Helper()
		if err != nil {
			t.Fatal(err)
		}
		return value
	}
}

// tree is a small root file system with a file of this many bytes, and templates.
func tree(t testing.TB, size int) (root, templates string) {
	dir := t.TempDir()
	root, templates = filepath.Join(dir, "root"), filepath.Join(dir, "templates")
	for _, path := range []string{filepath.Join(root, "etc"), templates} {
		if err := os.MkdirAll(path, 0o755); err != nil {
			t.Fatal(err)
		}
	}
	noise := make([]byte, size)
	state := uint32(1)
	for i := range noise {
		state = state*1664525 + 1013904223
		noise[i] = byte(state >> 24)
	}
	for path, content := range map[string][]byte{
		filepath.Join(root, "etc/hostname"):      []byte("box\n"),
		filepath.Join(root, "noise"):             noise,
		filepath.Join(templates, "hostname.tpl"): []byte("{{ container.name }}\n"),
	} {
		if err := os.WriteFile(path, content, 0o644); err != nil {
			t.Fatal(err)
		}
	}
	return root, templates
}

func packing(t testing.TB, size int) lxdimage.PackOptions {
	root, templates := tree(t, size)
	metadata := must[*lxdimage.Metadata](t)(lxdimage.NewMetadata("x86_64", time.Unix(1700000000, 0)))
	t.Cleanup(func() { metadata.Close() })
	if err := metadata.SetProperty("os", "Debian"); err != nil {
		t.Fatal(err)
	}
	mode := uint32(0o640)
	rule := lxdimage.NewRule{
		Template:   "hostname.tpl",
		When:       []string{"create"},
		Properties: lxdimage.Properties{{Key: "a", Value: "b"}},
		Owner:      &lxdimage.Owner{UID: 0, GID: 0},
		Mode:       &mode,
	}
	if err := metadata.SetRule("/etc/hostname", rule); err != nil {
		t.Fatal(err)
	}
	return lxdimage.PackOptions{Tree: root, Templates: templates, Metadata: metadata, Compression: "zstd:1"}
}

// packed is an image in memory.
func packed(t testing.TB, size int) ([]byte, lxdimage.Fingerprint) {
	var out bytes.Buffer
	options := packing(t, size)
	defer options.Metadata.Close()
	written := must[*lxdimage.Written](t)(lxdimage.PackTo(background, &out, options))
	if written.Bytes != uint64(out.Len()) {
		t.Fatalf("%d bytes were told, and %d written", written.Bytes, out.Len())
	}
	return out.Bytes(), written.Fingerprint
}

func open(t testing.TB, input lxdimage.Input) *lxdimage.Image {
	image := must[*lxdimage.Image](t)(lxdimage.Open(lxdimage.Unified(input), nil))
	t.Cleanup(func() { image.Close() })
	return image
}

func TestTheLibrarySaysWhatItIs(t *testing.T) {
	if !strings.HasPrefix(lxdimage.Version(), "0.") {
		t.Error(lxdimage.Version())
	}
	if !lxdimage.HasFeature("xz") || lxdimage.HasFeature("flying") || lxdimage.HasFeature("\xff") {
		t.Error("the features are wrong")
	}
	if len(lxdimage.LimitNames()) < 10 {
		t.Error(lxdimage.LimitNames())
	}
}

func TestAnImageReadFromMemoryFilePathAndReaderIsTheSame(t *testing.T) {
	image, fingerprint := packed(t, 1<<20)
	path := filepath.Join(t.TempDir(), "image")
	if err := os.WriteFile(path, image, 0o600); err != nil {
		t.Fatal(err)
	}
	file := must[*os.File](t)(os.Open(path))
	defer file.Close()
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	go func() {
		defer out.Close()
		io.Copy(out, bytes.NewReader(image))
	}()
	for name, input := range map[string]lxdimage.Input{
		"memory": lxdimage.Bytes(image),
		"file":   lxdimage.File(file),
		"path":   lxdimage.Path(path),
		"reader": lxdimage.Reader(bytes.NewReader(image)),
		"pipe":   lxdimage.File(in),
	} {
		found := must[*lxdimage.VerifyReport](t)(open(t, input).Verify(background, nil))
		if found.Fingerprint != fingerprint || len(found.Findings) != 0 || found.Files != 2 {
			t.Errorf("%s: %+v", name, found)
		}
		found.Close()
	}
}

func TestAPipeStillBelongsToTheRuntimeAfterwards(t *testing.T) {
	in, out, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	defer in.Close()
	defer out.Close()
	go out.Write(make([]byte, 4096))
	// Too little for an image, and not its end: the deadline ends the waiting, which only the runtime's own pipes can do.
	if err := in.SetReadDeadline(time.Now().Add(20 * time.Millisecond)); err != nil {
		t.Fatal(err)
	}
	_, err = lxdimage.FingerprintOf(background, lxdimage.Unified(lxdimage.File(in)))
	if !errors.Is(err, os.ErrDeadlineExceeded) || !errors.Is(err, lxdimage.ErrIO) {
		t.Fatal(err)
	}
}

func TestErrorsTellWhatTheyAreAndWhatCausedThem(t *testing.T) {
	_, err := lxdimage.Open(lxdimage.Unified(lxdimage.Path("/nowhere/at/all")), nil)
	var told *lxdimage.Error
	if !errors.Is(err, lxdimage.ErrNotFound) || !errors.Is(err, fs.ErrNotExist) || errors.Is(err, lxdimage.ErrIO) || !errors.As(err, &told) {
		t.Fatalf("%#v", err)
	}
	if told.File != "/nowhere/at/all" || !strings.Contains(err.Error(), "/nowhere/at/all") || told.Kind.String() != "NotFound" {
		t.Errorf("%#v", told)
	}
	image, fingerprint := packed(t, 0)
	_, err = open(t, lxdimage.Bytes(image)).Unpack(background, filepath.Join(t.TempDir(), "out"), lxdimage.Fingerprint{}, nil)
	if !errors.Is(err, lxdimage.ErrMismatch) || !errors.As(err, &told) || told.Found != fingerprint.String() {
		t.Errorf("%#v", err)
	}
	_, err = lxdimage.ParseTemplate([]byte("a\n {{ "), nil)
	if !errors.As(err, &told) || told.Stage != lxdimage.StageParse || told.Line != 2 {
		t.Errorf("%#v", err)
	}
}

type broken struct {
	io.Reader
	err error
}

func (b broken) Read(buffer []byte) (int, error) {
	count, err := b.Reader.Read(buffer)
	if err == io.EOF {
		err = b.err
	}
	return count, err
}

func TestWhatAReaderOrWriterSaidIsInTheChain(t *testing.T) {
	image, fingerprint := packed(t, 1<<20)
	torn := errors.New("torn")
	_, err := open(t, lxdimage.Reader(broken{bytes.NewReader(image[:len(image)/2]), torn})).Verify(background, nil)
	if !errors.Is(err, torn) || !errors.Is(err, lxdimage.ErrIO) || !strings.Contains(err.Error(), "torn") {
		t.Error(err)
	}
	_, err = open(t, lxdimage.Bytes(image)).ConvertTo(background, &full{room: 1000}, nil)
	if !errors.Is(err, errFull) || !errors.Is(err, lxdimage.ErrIO) {
		t.Error(err)
	}
	_, err = open(t, lxdimage.Bytes(image)).Survey(background, nil, func(*lxdimage.Entry) error { return torn })
	if !errors.Is(err, torn) {
		t.Error(err)
	}
	store := must[*lxdimage.Store](t)(lxdimage.OpenStore(filepath.Join(t.TempDir(), "store"), nil))
	defer store.Close()
	_, err = store.Import(background, lxdimage.Unified(lxdimage.Reader(broken{bytes.NewReader(image[:len(image)/2]), torn})), nil)
	if !errors.Is(err, torn) {
		t.Error(err)
	}
	must[*lxdimage.StoredImage](t)(store.Import(background, lxdimage.Unified(lxdimage.Bytes(image)), nil))
	if _, err = store.ExportTo(background, fingerprint, &full{room: 10}); !errors.Is(err, errFull) {
		t.Error(err)
	}
	if _, err = lxdimage.FingerprintOf(background, lxdimage.Unified(lxdimage.Reader(lazy{}))); !errors.Is(err, io.ErrNoProgress) {
		t.Error(err)
	}
}

var errFull = errors.New("full")

type full struct{ room int }

func (f *full) Write(bytes []byte) (int, error) {
	if len(bytes) > f.room {
		return f.room, errFull
	}
	f.room -= len(bytes)
	return len(bytes), nil
}

type lazy struct{}

func (lazy) Read([]byte) (int, error) { return 0, nil }

func TestACallWhoseContextIsDoneStops(t *testing.T) {
	image, fingerprint := packed(t, 8<<20)
	out := filepath.Join(t.TempDir(), "out")
	done, cancel := context.WithCancel(background)
	cancel()
	_, err := open(t, lxdimage.Bytes(image)).Unpack(done, out, fingerprint, nil)
	if !errors.Is(err, lxdimage.ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Error(err)
	}
	// And in the middle: the report of the first MiB ends it.
	done, cancel = context.WithCancel(background)
	defer cancel()
	var reports int
	watched := lxdimage.WithProgress(done, func(progress lxdimage.Progress) {
		reports++
		cancel()
	})
	slow := lxdimage.Reader(&throttled{bytes.NewReader(image), done})
	_, err = open(t, slow).Unpack(watched, out, fingerprint, nil)
	if !errors.Is(err, lxdimage.ErrCancelled) || !errors.Is(err, context.Canceled) || reports == 0 {
		t.Error(reports, err)
	}
	late, cancelLate := context.WithDeadline(background, time.Unix(1, 0))
	defer cancelLate()
	if _, err = open(t, lxdimage.Bytes(image)).Verify(late, nil); !errors.Is(err, context.DeadlineExceeded) {
		t.Error(err)
	}
	if names := must[[]os.DirEntry](t)(os.ReadDir(filepath.Dir(out))); len(names) != 0 {
		t.Errorf("something was left: %v", names)
	}
}

// throttled gives 4 MiB, and the rest when the context is done: so a call that ends early ends because of that.
type throttled struct {
	from *bytes.Reader
	done context.Context
}

func (r *throttled) Read(buffer []byte) (int, error) {
	if r.from.Size()-int64(r.from.Len()) > 4<<20 {
		<-r.done.Done()
		return 0, r.done.Err()
	}
	return r.from.Read(buffer)
}

func TestProgressIsReportedForEachMiB(t *testing.T) {
	image, _ := packed(t, 4<<20)
	var last lxdimage.Progress
	var reports int
	watched := lxdimage.WithProgress(background, func(progress lxdimage.Progress) {
		reports++
		if progress.Done > last.Done {
			last = progress
		}
	})
	must[*lxdimage.VerifyReport](t)(open(t, lxdimage.Bytes(image)).Verify(watched, nil)).Close()
	if reports < 4 || last.Done < 4<<20 || last.Total != int64(len(image)) || last.Phase.String() != "verify" {
		t.Errorf("%d reports, the last %+v of %d", reports, last, len(image))
	}
}

func TestAPanicOfACallersFunctionGoesOnAtTheCall(t *testing.T) {
	image, _ := packed(t, 1<<20)
	for name, call := range map[string]func(){
		"reader": func() { lxdimage.FingerprintOf(background, lxdimage.Unified(lxdimage.Reader(panicking{}))) },
		"writer": func() { open(t, lxdimage.Bytes(image)).ConvertTo(background, panicking{}, nil) },
		"survey": func() {
			open(t, lxdimage.Bytes(image)).Survey(background, nil, func(*lxdimage.Entry) error { panic("boo") })
		},
		"progress": func() {
			watched := lxdimage.WithProgress(background, func(lxdimage.Progress) { panic("boo") })
			open(t, lxdimage.Bytes(image)).Verify(watched, nil)
		},
		"clock": func() {
			lxdimage.OpenStore(filepath.Join(t.TempDir(), "s"), &lxdimage.StoreOptions{Clock: func() time.Time { panic("boo") }})
			store, err := lxdimage.OpenStore(filepath.Join(t.TempDir(), "s"), &lxdimage.StoreOptions{Clock: func() time.Time { panic("boo") }})
			if err == nil {
				defer store.Close()
				store.Import(background, lxdimage.Unified(lxdimage.Bytes(image)), nil)
			}
		},
	} {
		func() {
			defer func() {
				if caught := recover(); caught != "boo" {
					t.Errorf("%s: %v", name, caught)
				}
			}()
			call()
		}()
	}
}

type panicking struct{}

func (panicking) Read([]byte) (int, error)  { panic("boo") }
func (panicking) Write([]byte) (int, error) { panic("boo") }

func TestWhatIsClosedSaysSo(t *testing.T) {
	image, _ := packed(t, 0)
	opened := open(t, lxdimage.Bytes(image))
	opened.Close()
	opened.Close()
	if _, err := opened.Verify(background, nil); !errors.Is(err, fs.ErrClosed) || !errors.Is(err, lxdimage.ErrInvalidInput) {
		t.Error(err)
	}
	if _, err := lxdimage.Differences(background, open(t, lxdimage.Bytes(image)), opened, nil); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	limits := must[*lxdimage.Limits](t)(lxdimage.NewTrustedLimits())
	limits.Close()
	if _, err := lxdimage.Open(lxdimage.Unified(lxdimage.Bytes(image)), limits); !errors.Is(err, fs.ErrClosed) {
		t.Error(err)
	}
	if _, err := new(lxdimage.Image).Info(); !errors.Is(err, lxdimage.ErrInvalidInput) {
		t.Error(err)
	}
	if _, err := lxdimage.Open(lxdimage.Split(lxdimage.Reader(bytes.NewReader(image)), lxdimage.Input{}), nil); !errors.Is(err, lxdimage.ErrInvalidInput) {
		t.Error(err)
	}
	if _, err := lxdimage.FingerprintOf(background, lxdimage.Unified(lxdimage.File(nil))); !errors.Is(err, lxdimage.ErrInvalidInput) {
		t.Error(err)
	}
}

func TestClosingLetsCallsThatAreUnderWayEnd(t *testing.T) {
	image, fingerprint := packed(t, 1<<20)
	opened := open(t, lxdimage.Bytes(image))
	verification, err := opened.Survey(background, nil, func(entry *lxdimage.Entry) error {
		opened.Close()
		if _, err := opened.Info(); !errors.Is(err, fs.ErrClosed) {
			t.Error(err)
		}
		return nil
	})
	if err != nil || verification.Fingerprint != fingerprint {
		t.Fatal(err)
	}
	verification.Close()
}

// settle waits until what was forgotten is closed, and nothing else is there.
func settle(t *testing.T) {
	t.Helper()
	for start := time.Now(); lxdimage.Living() > 0; runtime.GC() {
		if time.Since(start) > time.Minute {
			t.Fatalf("%d handles live", lxdimage.Living())
		}
		time.Sleep(time.Millisecond)
	}
}

func TestWhatIsForgottenIsClosed(t *testing.T) {
	image, _ := packed(t, 1<<10)
	out := filepath.Join(t.TempDir(), "out")
	func() {
		opened := must[*lxdimage.Image](t)(lxdimage.Open(lxdimage.Unified(lxdimage.Reader(bytes.NewReader(image))), nil))
		staged := must[*lxdimage.Staged](t)(opened.Stage(background, out, nil))
		hasher := must[*lxdimage.Hasher](t)(lxdimage.NewHasher())
		if now := lxdimage.Living(); now < 3 {
			t.Errorf("only %d handles live", now)
		}
		runtime.KeepAlive(opened)
		runtime.KeepAlive(staged)
		runtime.KeepAlive(hasher)
	}()
	settle(t)
	// What was staged went with its handle.
	if names := must[[]os.DirEntry](t)(os.ReadDir(filepath.Dir(out))); len(names) != 0 {
		t.Errorf("something was left: %v", names)
	}
}

func TestStagedImagesAreSeenOnlyWhenCommitted(t *testing.T) {
	image, fingerprint := packed(t, 0)
	out := filepath.Join(t.TempDir(), "out")
	opened := open(t, lxdimage.Bytes(image))
	staged := must[*lxdimage.Staged](t)(opened.Stage(background, out, &lxdimage.UnpackOptions{RootfsOnly: true, SkipDevices: true, Durable: true, Threads: 1}))
	defer staged.Close()
	info := must[*lxdimage.Unpacked](t)(staged.Info())
	if _, err := os.Stat(out); !errors.Is(err, fs.ErrNotExist) || info.Fingerprint != fingerprint || info.Path != "" {
		t.Error(err, info)
	}
	if err := staged.Verify(fingerprint); err != nil {
		t.Fatal(err)
	}
	unpacked := must[*lxdimage.Unpacked](t)(staged.Commit("other"))
	defer unpacked.Close()
	if filepath.Base(unpacked.Path) != "other" {
		t.Error(unpacked.Path)
	}
	if content := must[[]byte](t)(os.ReadFile(filepath.Join(unpacked.Path, "etc/hostname"))); string(content) != "box\n" {
		t.Errorf("%q", content)
	}
	again := must[*lxdimage.Staged](t)(opened.Stage(background, out, nil))
	defer again.Close()
	if err := again.Discard(); err != nil {
		t.Error(err)
	}
	if _, err := again.Info(); !errors.Is(err, lxdimage.ErrInvalidInput) {
		t.Error(err)
	}
}

func TestTemplatesAreAppliedInsideOfTheirRoot(t *testing.T) {
	image, fingerprint := packed(t, 0)
	out := filepath.Join(t.TempDir(), "c1")
	must[*lxdimage.Unpacked](t)(open(t, lxdimage.Bytes(image)).Unpack(background, out, fingerprint, nil)).Close()
	variables := must[*lxdimage.TemplateContext](t)(lxdimage.Instance{Name: "c1", Type: lxdimage.TypeContainer}.Context())
	defer variables.Close()
	dry := must[[]lxdimage.Outcome](t)(lxdimage.Apply(background, out, lxdimage.TriggerCreate, variables, &lxdimage.ApplyOptions{DryRun: true, Dialect: lxdimage.DialectIncus}))
	if len(dry) != 1 || dry[0].Action != lxdimage.ActionReplaced || string(dry[0].Change.Old) != "box\n" || string(dry[0].Change.New) != "c1\n" {
		t.Errorf("%+v", dry)
	}
	metadata := must[*lxdimage.Metadata](t)(open(t, lxdimage.Bytes(image)).Metadata())
	defer metadata.Close()
	root := must[*os.File](t)(os.Open(filepath.Join(out, "rootfs")))
	defer root.Close()
	templates := must[*os.File](t)(os.Open(filepath.Join(out, "templates")))
	defer templates.Close()
	done := must[[]lxdimage.Outcome](t)(lxdimage.ApplyAt(background, root, templates, lxdimage.TriggerCreate, variables, &lxdimage.ApplyOptions{Metadata: metadata, Dialect: lxdimage.DialectIncus}))
	if len(done) != 1 || done[0].Action.String() != "replaced" || done[0].Change != nil || done[0].Mode != 0o644 {
		t.Errorf("%+v", done)
	}
	if content := must[[]byte](t)(os.ReadFile(filepath.Join(out, "rootfs/etc/hostname"))); string(content) != "c1\n" {
		t.Errorf("%q", content)
	}
	// A template that is gone fails, and the outcome is told all the same.
	if err := os.Remove(filepath.Join(out, "templates/hostname.tpl")); err != nil {
		t.Fatal(err)
	}
	failed, err := lxdimage.Apply(background, out, lxdimage.TriggerCreate, variables, nil)
	if !errors.Is(err, lxdimage.ErrNotFound) || len(failed) != 1 || failed[0].Failure != lxdimage.ErrNotFound {
		t.Errorf("%+v %v", failed, err)
	}
}

func TestMetadataIsReadChangedAndWritten(t *testing.T) {
	metadata := must[*lxdimage.Metadata](t)(lxdimage.ParseMetadata([]byte("architecture: amd64\ncreation_date: 1\nproperties: {b: c, a: d}\nkept: [1]\n"), nil))
	defer metadata.Close()
	copied := must[*lxdimage.Metadata](t)(metadata.Copy())
	defer copied.Close()
	for _, err := range []error{
		metadata.SetArchitecture("arm64"),
		metadata.SetCreationDate(time.Unix(2, 0)),
		metadata.SetExpiryDate(time.Unix(3, 0)),
		metadata.RemoveProperty("b"),
		metadata.SetRule("/etc/motd", lxdimage.NewRule{Template: "motd.tpl", When: []string{"start"}, CreateOnly: true}),
		metadata.SetRule("/gone", lxdimage.NewRule{Template: "motd.tpl", When: []string{"start"}}),
		metadata.RemoveRule("/gone"),
	} {
		if err != nil {
			t.Error(err)
		}
	}
	info := must[*lxdimage.MetadataInfo](t)(metadata.Info())
	if _, there := info.Properties.Get("b"); there || info.DebianArchitecture != "arm64" || info.ExpiryDate.Unix() != 3 || len(info.Rules) != 1 || !info.Rules[0].CreateOnly {
		t.Errorf("%+v", info)
	}
	if value, there := info.Properties.Get("a"); !there || value != "d" {
		t.Error(value)
	}
	if yaml := must[[]byte](t)(metadata.YAML()); !strings.Contains(string(yaml), "kept:") {
		t.Errorf("%s", yaml)
	}
	if value, err := copied.Property("b"); err != nil || value != "c" {
		t.Error(value, err)
	}
}

func TestTheRestOfAStore(t *testing.T) {
	dir := filepath.Join(t.TempDir(), "store")
	if _, err := lxdimage.OpenStore(dir, &lxdimage.StoreOptions{NoCreate: true}); !errors.Is(err, lxdimage.ErrNotFound) {
		t.Error(err)
	}
	wait := time.Second
	store := must[*lxdimage.Store](t)(lxdimage.OpenStore(dir, &lxdimage.StoreOptions{BusyTimeout: &wait}))
	defer store.Close()
	image, written, err := store.Publish(background, packing(t, 0), &lxdimage.ImportOptions{
		Aliases:    []lxdimage.Alias{{Name: "box", Description: "a box"}},
		Properties: lxdimage.Properties{{Key: "k", Value: "v"}},
		Source:     &lxdimage.UpdateSource{Server: "https://images.example.org", Protocol: "simplestreams", Alias: "box", Type: lxdimage.TypeContainer},
	})
	if err != nil || image.Fingerprint != written.Fingerprint || image.Source.Alias != "box" {
		t.Fatalf("%+v %v", image, err)
	}
	yes, revision, never := true, image.Revision, time.Time{}
	edit := lxdimage.Edit{AutoUpdate: &yes, ETag: image.ETag, Revision: &revision, ExpiresAt: &never, ReplaceProperties: true, Properties: lxdimage.Properties{{Key: "only", Value: "one"}}}
	changed := must[*lxdimage.StoredImage](t)(store.Edit(image.Fingerprint, edit))
	if !changed.AutoUpdate || len(changed.Properties) != 1 {
		t.Errorf("%+v", changed)
	}
	if _, err := store.Edit(image.Fingerprint, edit); !errors.Is(err, lxdimage.ErrMismatch) {
		t.Error(err)
	}
	alias := must[*lxdimage.AliasTarget](t)(store.Alias("box"))
	if alias.Description != "a box" || alias.Target != image.Fingerprint {
		t.Errorf("%+v", alias)
	}
	if found := must[*lxdimage.StoredImage](t)(store.Image(image.Fingerprint)); found.Revision != changed.Revision {
		t.Errorf("%+v", found)
	}
	if _, err := store.Export(background, lxdimage.Fingerprint{}, t.TempDir()); !errors.Is(err, lxdimage.ErrNotFound) {
		t.Error(err)
	}
	if _, err := store.Check(background, &lxdimage.CheckOptions{Repair: true}); err != nil {
		t.Error(err)
	}
	store.Close()
	report := must[*lxdimage.CheckReport](t)(lxdimage.Repair(background, dir, &lxdimage.StoreOptions{Clock: time.Now}))
	if report.Images != 1 || len(report.Findings) != 0 {
		t.Errorf("%+v", report)
	}
	readOnly := must[*lxdimage.Store](t)(lxdimage.OpenStore(dir, &lxdimage.StoreOptions{ReadOnly: true}))
	defer readOnly.Close()
	if err := readOnly.Delete(image.Fingerprint); err == nil {
		t.Error("a store that is only read was changed")
	}
}

func TestEightGoroutinesShareWhatTheyMay(t *testing.T) {
	image, fingerprint := packed(t, 256<<10)
	opened := open(t, lxdimage.Bytes(image))
	store := must[*lxdimage.Store](t)(lxdimage.OpenStore(filepath.Join(t.TempDir(), "store"), nil))
	defer store.Close()
	must[*lxdimage.StoredImage](t)(store.Import(background, lxdimage.Unified(lxdimage.Bytes(image)), nil))
	metadata := must[*lxdimage.Metadata](t)(opened.Metadata())
	defer metadata.Close()
	template := must[*lxdimage.Template](t)(lxdimage.ParseTemplate([]byte("{{ container.name }}{{ trigger }}"), nil))
	defer template.Close()
	variables := must[*lxdimage.TemplateContext](t)(lxdimage.Instance{Name: "c1"}.Context())
	defer variables.Close()
	hasher := must[*lxdimage.Hasher](t)(lxdimage.NewHasher())
	defer hasher.Close()
	dir := t.TempDir()
	var wait sync.WaitGroup
	var reports atomic.Int64
	for i := 0; i < 8; i++ {
		wait.Add(1)
		go func(i int) {
			defer wait.Done()
			watched, cancel := context.WithCancel(lxdimage.WithProgress(background, func(lxdimage.Progress) { reports.Add(1) }))
			defer cancel()
			for round := 0; round < 3; round++ {
				verification, err := opened.Verify(watched, nil)
				if err != nil || verification.Fingerprint != fingerprint {
					t.Error(err)
					return
				}
				verification.Close()
				unpacked, err := opened.Unpack(watched, filepath.Join(dir, fmt.Sprint(i, round)), fingerprint, nil)
				if err != nil {
					t.Error(err)
					return
				}
				unpacked.Close()
				name := fmt.Sprint("alias", i, round)
				for _, err := range []error{
					store.CreateAlias(lxdimage.Alias{Name: name}, fingerprint),
					store.MarkUsed(fingerprint),
					store.DeleteAlias(name),
					metadata.SetProperty(name, "x"),
				} {
					if err != nil {
						t.Error(err)
					}
				}
				if _, err := metadata.Info(); err != nil {
					t.Error(err)
				}
				if text, err := template.Render(variables, nil); err != nil || string(text) != "c1" {
					t.Errorf("%q %v", text, err)
				}
				hasher.Write(image)
				if _, _, err := hasher.Fingerprint(); err != nil {
					t.Error(err)
				}
			}
		}(i)
	}
	wait.Wait()
	if _, seen, _ := hasher.Fingerprint(); seen != uint64(len(image))*24 || reports.Load() == 0 {
		t.Errorf("%d bytes, %d reports", seen, reports.Load())
	}
}

func TestClosingWhileOthersCallIsAnErrorAtWorst(t *testing.T) {
	image, _ := packed(t, 64<<10)
	for round := 0; round < 20; round++ {
		opened := open(t, lxdimage.Bytes(image))
		var wait sync.WaitGroup
		for i := 0; i < 4; i++ {
			wait.Add(1)
			go func() {
				defer wait.Done()
				verification, err := opened.Verify(background, nil)
				if err == nil {
					verification.Close()
				} else if !errors.Is(err, fs.ErrClosed) {
					t.Error(err)
				}
			}()
		}
		opened.Close()
		wait.Wait()
	}
}

func TestOmissionsComeWithResultsAndThroughContexts(t *testing.T) {
	var archive bytes.Buffer
	writer := tar.NewWriter(&archive)
	for _, name := range []string{"metadata.yaml", "rootfs/x", "stray"} {
		content := "x"
		if name == "metadata.yaml" {
			content = "architecture: amd64\ncreation_date: 1\n"
		}
		if err := writer.WriteHeader(&tar.Header{Name: name, Mode: 0o644, Size: int64(len(content))}); err != nil {
			t.Fatal(err)
		}
		io.WriteString(writer, content)
	}
	writer.Close()
	image := open(t, lxdimage.Bytes(archive.Bytes()))
	var left lxdimage.Omissions
	ctx := lxdimage.WithOmissions(background, left.Add)
	stray := lxdimage.Omission{Path: "stray", Kind: lxdimage.OmissionStray, What: "not part of an image, left out"}
	verification := must[*lxdimage.VerifyReport](t)(image.Verify(ctx, nil))
	verification.Close()
	written := must[*lxdimage.Written](t)(image.ConvertTo(ctx, io.Discard, nil))
	for _, of := range []lxdimage.Omissions{verification.Omissions, written.Omissions} {
		if len(of.List) != 1 || of.List[0] != stray || of.Total != 1 || of.Counts[stray.What] != 1 {
			t.Fatalf("%+v", of)
		}
	}
	staged := must[*lxdimage.Staged](t)(image.Stage(ctx, filepath.Join(t.TempDir(), "out"), nil))
	if err := staged.AcceptUnverified(); err != nil {
		t.Fatal(err)
	}
	unpacked := must[*lxdimage.Unpacked](t)(staged.Commit("out"))
	unpacked.Close()
	if last := unpacked.Omissions; last.Total == 0 || last.List[len(last.List)-1] != stray {
		t.Fatalf("%+v", last)
	}
	if left.Total != 2+unpacked.Omissions.Total || left.Counts[stray.What] != 3 {
		t.Fatalf("%+v", left)
	}
	// Also a call that fails tells what it left out until then.
	left = lxdimage.Omissions{}
	if _, err := image.Unpack(ctx, filepath.Join(t.TempDir(), "out"), lxdimage.Fingerprint{}, nil); !errors.Is(err, lxdimage.ErrMismatch) || left.Total == 0 {
		t.Fatalf("%v %+v", err, left)
	}
}

func TestOmissionsBeyondTheBoundAreCounted(t *testing.T) {
	one := lxdimage.Omissions{List: make([]lxdimage.Omission, 600), Counts: map[string]uint64{"a": 600}, Total: 600}
	var all lxdimage.Omissions
	all.Add(one)
	all.Add(one)
	if len(all.List) != 1000 || all.Counts["a"] != 1200 || all.Total != 1200 {
		t.Fatalf("%d %v %d", len(all.List), all.Counts, all.Total)
	}
}

func TestPruningEndsWithItsContext(t *testing.T) {
	dir := t.TempDir()
	ctx, cancel := context.WithCancel(context.Background())
	cancel()
	store := must[*lxdimage.Store](t)(lxdimage.OpenStore(filepath.Join(dir, "store"), nil))
	defer store.Close()
	if _, err := store.Prune(ctx, nil); !errors.Is(err, lxdimage.ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Errorf("store: %v", err)
	}
	tree := must[*lxdimage.Tree](t)(lxdimage.OpenTree(filepath.Join(dir, "tree"), &lxdimage.TreeOptions{Create: true}))
	defer tree.Close()
	if _, err := tree.Prune(ctx, nil); !errors.Is(err, lxdimage.ErrCancelled) || !errors.Is(err, context.Canceled) {
		t.Errorf("tree: %v", err)
	}
}

func TestKeysPoliciesAndDisksAreUsedByManyGoroutines(t *testing.T) {
	ctx := context.Background()
	key := must[*lxdimage.SecretKey](t)(lxdimage.GenerateKey())
	defer key.Close()
	public := must[*lxdimage.PublicKey](t)(key.Public())
	defer public.Close()
	policy := must[*lxdimage.Policy](t)(lxdimage.ParsePolicy(`default = "allow"`, ".", nil))
	defer policy.Close()
	content := make([]byte, 1<<16)
	for i := range content {
		content[i] = byte(i >> 8)
	}
	disk := must[*lxdimage.DiskImage](t)(lxdimage.OpenDisk(ctx, lxdimage.Bytes(content), &lxdimage.DiskOptions{Format: "raw"}))
	defer disk.Close()
	var all sync.WaitGroup
	for i := 0; i < 8; i++ {
		all.Add(1)
		go func(number int) {
			defer all.Done()
			fingerprint := lxdimage.Fingerprint{byte(number)}
			statement, err := lxdimage.SignStatement(fingerprint, nil, key)
			if err != nil {
				t.Error(err)
				return
			}
			if _, err := lxdimage.VerifyStatements([]lxdimage.Statement{*statement}, fingerprint, "", public); err != nil {
				t.Error(err)
			}
			if _, err := lxdimage.VerifyStatements([]lxdimage.Statement{*statement}, lxdimage.Fingerprint{99}, "", public); !errors.Is(err, lxdimage.ErrUntrusted) {
				t.Errorf("a statement about another image: %v", err)
			}
			if _, err := policy.Admit(lxdimage.Candidate{Fingerprint: fingerprint}); err != nil {
				t.Error(err)
			}
			buffer := make([]byte, 300)
			if count, err := disk.ReadAt(buffer, int64(number)<<8); count != 300 || err != nil || buffer[0] != byte(number) || buffer[256] != byte(number+1) {
				t.Errorf("%d bytes, %v", count, err)
			}
		}(i)
	}
	all.Wait()
	if count, err := disk.ReadAt(make([]byte, 8), 1<<16-4); count != 4 || err != io.EOF {
		t.Errorf("at the end: %d bytes, %v", count, err)
	}
	if _, err := disk.ReadAt(make([]byte, 8), -1); !errors.Is(err, lxdimage.ErrInvalidInput) {
		t.Errorf("a negative offset: %v", err)
	}
}

func TestClosedKeysAndDisksAreRefused(t *testing.T) {
	key := must[*lxdimage.SecretKey](t)(lxdimage.GenerateKey())
	key.Close()
	if _, err := lxdimage.SignStatement(lxdimage.Fingerprint{}, nil, key); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("key: %v", err)
	}
	disk := must[*lxdimage.DiskImage](t)(lxdimage.OpenDisk(context.Background(), lxdimage.Bytes(make([]byte, 512)), &lxdimage.DiskOptions{Format: "raw"}))
	disk.Close()
	if _, err := disk.ReadAt(make([]byte, 1), 0); !errors.Is(err, fs.ErrClosed) {
		t.Errorf("disk: %v", err)
	}
}
