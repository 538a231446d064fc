package lxdimage_test

// Steps about registries, layouts and bundles, and about disks.

import (
	"bufio"
	"errors"
	"io"
	"os"
	"os/exec"
	"strconv"
	"strings"

	"lxdimage"
)

// oci are the registry and the disk of a case.
type oci struct {
	process     *exec.Cmd
	input       io.Closer
	registryURL string
	disk        *lxdimage.DiskImage
}

func (r *runner) endOCI() {
	if r.process != nil {
		// It ends when its input does.
		r.input.Close()
		r.must(r.process.Wait())
		r.process = nil
	}
	if r.disk != nil {
		r.disk.Close()
		r.disk = nil
	}
}

func (r *runner) startRegistry() {
	process := exec.Command("python3", registryScript)
	input, err := process.StdinPipe()
	r.must(err)
	output, err := process.StdoutPipe()
	r.must(err)
	r.must(process.Start())
	r.process, r.input = process, input
	url, err := bufio.NewReader(output).ReadString('\n')
	r.must(err)
	r.registryURL = strings.TrimSpace(url)
}

func (r *runner) connectRegistry(words []string) (*lxdimage.Remote, error) {
	remote, err := lxdimage.Connect(lxdimage.RemoteAddress{URL: r.registryURL, Protocol: "oci", Public: true}, nil)
	if err != nil || len(words) < 3 {
		return remote, err
	}
	defer remote.Close()
	return remote.Repository(words[2])
}

func (r *runner) push(words []string) {
	of, ok := r.fingerprint(words[3])
	if !ok {
		return
	}
	options := lxdimage.PushOptions{
		Tags:      names(words[2]),
		AliasTags: strings.Contains(words[1], "a"),
		ReuseTags: strings.Contains(words[1], "r"),
	}
	digest, err := r.remote.Push(r.ctx, r.store, *of, words[4], &options)
	if !r.failed(err) {
		r.line("%s", digest)
	}
}

func (r *runner) layoutOptions(words []string, at int) *lxdimage.LayoutOptions {
	options := &lxdimage.LayoutOptions{
		System:       strings.Contains(words[1], "s"),
		Architecture: "x86_64",
		Compression:  "none",
		Limits:       r.limits,
	}
	if len(words) > at {
		options.Image = words[at]
	}
	return options
}

func (r *runner) showNames(names []string, err error) {
	if r.failed(err) {
		return
	}
	for _, name := range names {
		r.line("%s", name)
	}
}

func (r *runner) showWritten(written *lxdimage.Written, err error) {
	if !r.failed(err) {
		r.line("%s", written.Fingerprint)
	}
}

// given is a word, or nothing for "-".
func given(word string) string {
	if word == "-" {
		return ""
	}
	return word
}

func (r *runner) openDisk(words []string) {
	if r.disk != nil {
		r.disk.Close()
		r.disk = nil
	}
	disk, err := lxdimage.OpenDisk(r.ctx, lxdimage.Path(words[2]), &lxdimage.DiskOptions{Format: given(words[1]), Directory: ".", Threads: 2, Limits: r.limits})
	if r.failed(err) {
		return
	}
	r.disk = disk
	info := disk.Info()
	r.line("%s %s %s", info.Format, info.DiskFormat, quote(info.Variant))
	allocated, err := disk.Allocated(r.ctx)
	r.must(err)
	r.line("size %d cluster %d allocated %d", info.VirtualSize, info.ClusterSize, allocated)
}

func (r *runner) readDisk(words []string) {
	offset, err := strconv.ParseInt(words[1], 10, 64)
	r.must(err)
	buffer := make([]byte, r.number(words[2]))
	count, err := r.disk.ReadAt(buffer, offset)
	if count < len(buffer) && errors.Is(err, io.EOF) {
		err = nil
	}
	if !r.failed(err) {
		r.line("%s", quote(string(buffer[:count])))
	}
}

func (r *runner) showDisk(written *lxdimage.WrittenDisk, err error) {
	if !r.failed(err) {
		r.line("virtual %d bytes %d", written.VirtualSize, written.Bytes)
	}
}

// image opens files, and closes them when work is done.
func (r *runner) image(files []string, work func(*lxdimage.Image)) {
	source, closing := r.files(files)
	defer closing()
	image, err := lxdimage.Open(source, nil)
	if r.failed(err) {
		return
	}
	defer image.Close()
	work(image)
}

func (r *runner) packing(yaml string) lxdimage.PackOptions {
	return lxdimage.PackOptions{MetadataYAML: []byte(yaml), Compression: "none", Limits: r.limits}
}

func (r *runner) moveDisk(words []string) {
	r.image(words[3:], func(image *lxdimage.Image) {
		staged, err := image.Stage(r.ctx, words[2], nil)
		if r.failed(err) {
			return
		}
		defer staged.Close()
		if _, err := staged.MoveDisk(r.ctx, words[1], nil); !errors.Is(err, lxdimage.ErrInvalidInput) {
			r.t.Fatalf("an image that is not verified gives its disk: %v", err)
		}
		r.must(staged.AcceptUnverified())
		written, err := staged.MoveDisk(r.ctx, words[1], nil)
		if r.failed(err) {
			return
		}
		unpacked, err := staged.Commit(words[2])
		r.must(err)
		unpacked.Close()
		r.showDisk(written, nil)
	})
}

func (r *runner) diskStep(words []string) bool {
	switch words[0] {
	case "disk":
		r.openDisk(words)
	case "disk-read":
		r.readDisk(words)
	case "disk-write":
		r.showDisk(r.disk.Write(r.ctx, words[3], &lxdimage.DiskWriteOptions{Format: given(words[1]), Compression: given(words[2])}))
	case "pack-disk":
		options := r.packing(words[4])
		disk := lxdimage.Path(words[3])
		options.Disk, options.DiskInput, options.DiskCompression = &disk, given(words[1]), given(words[2])
		r.showWritten(lxdimage.Pack(r.ctx, words[5], options))
	case "pack-metadata":
		r.showWritten(lxdimage.PackMetadata(r.ctx, words[2], r.packing(words[1])))
	case "unpack-disk":
		r.image(words[3:], func(image *lxdimage.Image) {
			unpacked, err := image.UnpackUnverified(r.ctx, words[2], &lxdimage.UnpackOptions{DiskFormat: words[1]})
			if !r.failed(err) {
				unpacked.Close()
			}
		})
	case "move-disk":
		r.moveDisk(words)
	case "convert-disk":
		r.image(words[4:], func(image *lxdimage.Image) {
			r.showWritten(image.Convert(r.ctx, words[3], &lxdimage.ConvertOptions{Compression: "none", DiskFormat: words[1], DiskCompression: given(words[2])}))
		})
	default:
		return false
	}
	return true
}

func (r *runner) ociStep(words []string) bool {
	switch words[0] {
	case "registry":
		r.startRegistry()
	case "push":
		r.push(words)
	case "tags":
		r.showNames(r.remote.Tags(r.ctx, given(words[1])))
	case "layout-names":
		r.showNames(lxdimage.LayoutNames(r.ctx, words[1], r.limits))
	case "import-layout":
		image, incus, err := r.store.ImportLayout(r.ctx, words[2], r.layoutOptions(words, 3), nil)
		if r.failed(err) {
			return true
		}
		r.showStored(image)
		if incus != nil {
			r.line("incus %s", *incus)
		}
	case "layout-write":
		r.showWritten(lxdimage.WriteLayoutImage(r.ctx, words[2], words[3], r.layoutOptions(words, 4)))
	case "bundle":
		var images []lxdimage.Fingerprint
		for _, word := range words[2:] {
			of, ok := r.fingerprint(word)
			if !ok {
				return true
			}
			images = append(images, *of)
		}
		r.failed(r.store.CreateBundle(r.ctx, words[1], images...))
	case "bundle-import":
		options := lxdimage.BundleOptions{Public: strings.Contains(words[1], "p"), ReuseAliases: strings.Contains(words[1], "r"), Limits: r.limits}
		images, err := r.store.ImportBundle(r.ctx, words[2], &options)
		if r.failed(err) {
			return true
		}
		for _, image := range images {
			r.line("%s", image.Fingerprint)
		}
	default:
		return r.diskStep(words)
	}
	return true
}

// registryScript is the registry of the cases, whose steps are in other directories.
var registryScript = func() string {
	here, err := os.Getwd()
	if err != nil {
		panic(err)
	}
	return here + "/../../tests/peers/registry.py"
}()
