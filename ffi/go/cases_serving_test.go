package lxdimage_test

// Steps about trees, servers, remotes, and what comes from them into a store or a tree.

import (
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync/atomic"
	"time"

	"lxdimage"
)

// serving is the server and the remote of a case.
type serving struct {
	server *lxdimage.Server
	// cache caches what the first one has.
	cache  *lxdimage.Server
	remote *lxdimage.Remote
	tree   *lxdimage.Tree
	logged atomic.Int64
}

func (r *runner) endServing() {
	// The cache first, which asks the other one.
	if r.cache != nil {
		r.must(r.cache.Close())
		r.cache = nil
	}
	if r.server != nil {
		r.must(r.server.Close())
	}
	if r.remote != nil {
		r.remote.Close()
	}
	if r.tree != nil {
		r.tree.Close()
	}
	r.server, r.remote, r.tree = nil, nil, nil
}

// names are words by commas, or none.
func names(word string) []string {
	if word == "-" {
		return nil
	}
	return strings.Split(word, ",")
}

func aliases(word string) []lxdimage.Alias {
	var found []lxdimage.Alias
	for _, name := range names(word) {
		found = append(found, lxdimage.Alias{Name: name})
	}
	return found
}

func (r *runner) number(word string) uint64 {
	value, err := strconv.ParseUint(word, 10, 64)
	r.must(err)
	return value
}

func (r *runner) treeStep(words []string) bool {
	switch words[0] {
	case "tree":
		if r.tree != nil {
			r.tree.Close()
		}
		r.clock = time.Unix(1750000000, 0)
		tree, err := lxdimage.OpenTree(words[1], &lxdimage.TreeOptions{Create: true, Limits: r.limits, Clock: func() time.Time { return r.clock }})
		if !r.failed(err) {
			r.tree = tree
		}
	case "tree-add":
		source, closing := r.files(words[2:])
		defer closing()
		fingerprint, err := r.tree.Add(r.ctx, source, &lxdimage.TreeAddOptions{Aliases: names(words[1])})
		if !r.failed(err) {
			r.line("%s", fingerprint)
		}
	case "tree-list":
		images, err := r.tree.List()
		if r.failed(err) {
			return true
		}
		for _, image := range images {
			r.line("image %s %s %s bytes %d created %d", image.Fingerprint, image.Type, image.Architecture, image.Bytes, image.CreatedAt.Unix())
			r.line("product %s %s", quote(image.Product), quote(image.Version))
			for _, alias := range image.Aliases {
				r.line("alias %s", quote(alias))
			}
			for _, property := range image.Properties {
				r.line("property %s %s", quote(property.Key), quote(property.Value))
			}
		}
	case "tree-remove":
		if of, ok := r.fingerprint(words[1]); ok {
			r.failed(r.tree.Remove(*of))
		}
	case "tree-prune":
		after := time.Duration(r.number(words[2])) * time.Second
		done, err := r.tree.Prune(r.ctx, &lxdimage.TreePruneOptions{Keep: uint32(r.number(words[1])), After: &after})
		if !r.failed(err) {
			r.line("versions %d files %d bytes %d waiting %d", done.Versions, done.Files, done.Bytes, done.Waiting)
		}
	case "tree-verify":
		report, err := r.tree.Verify(r.ctx)
		if r.failed(err) {
			return true
		}
		r.line("images %d files %d bytes %d", report.Images, report.Files, report.Bytes)
		for _, finding := range report.Findings {
			r.line("finding %s", kind(finding))
		}
	default:
		return false
	}
	return true
}

func (r *runner) settings() *lxdimage.Settings {
	here, err := os.Getwd()
	r.must(err)
	settings, err := lxdimage.OpenSettings(filepath.Join(here, "settings"))
	r.must(err)
	return settings
}

func (r *runner) serve() {
	if r.server != nil {
		r.must(r.server.Close())
		r.server = nil
	}
	settings := r.settings()
	defer settings.Close()
	_, err := settings.Certificate()
	r.must(err)
	r.logged.Store(0)
	server, err := r.store.Serve(lxdimage.ServerOptions{
		Listen:    []string{"http://127.0.0.1:0", "127.0.0.1:0"},
		Directory: "server",
		Trusted:   "settings/client.crt",
		Log:       func(string) { r.logged.Add(1) },
	})
	if !r.failed(err) {
		r.server = server
	}
}

func (r *runner) connect(words []string) {
	if r.remote != nil {
		r.remote.Close()
		r.remote = nil
	}
	var remote *lxdimage.Remote
	var err error
	switch words[1] {
	case "registry":
		remote, err = r.connectRegistry(words)
	case "tree":
		here, gone := os.Getwd()
		r.must(gone)
		remote, err = lxdimage.Connect(lxdimage.RemoteAddress{URL: "file://" + filepath.Join(here, words[2]), Protocol: "simplestreams"}, nil)
	case "server":
		remote, err = lxdimage.Connect(lxdimage.RemoteAddress{URL: r.server.URLs()[0]}, nil)
	default:
		settings := r.settings()
		defer settings.Close()
		if words[1] == "trusted" {
			address := lxdimage.RemoteAddress{URL: r.server.URLs()[1]}
			contact, err := lxdimage.FirstUse(r.ctx, address, nil)
			r.must(err)
			real, err := r.server.Fingerprint()
			r.must(err)
			if contact.Trust != lxdimage.TrustUnknown || contact.Fingerprint != real {
				r.t.Fatalf("another certificate: %v", contact)
			}
			address.Certificate = contact.Certificate
			r.must(settings.Add("trusted", address))
		}
		remote, err = settings.Connect(words[1], nil)
	}
	if !r.failed(err) {
		r.remote = remote
	}
}

// serveCache serves the store as a cache of the remote `trusted`, and connects to it.
func (r *runner) serveCache() {
	settings := r.settings()
	defer settings.Close()
	server, err := r.store.Serve(lxdimage.ServerOptions{Listen: []string{"http://127.0.0.1:0"}, Limits: r.limits, Settings: settings, Upstream: "trusted"})
	if r.failed(err) {
		return
	}
	r.cache = server
	r.remote.Close()
	r.remote, err = lxdimage.Connect(lxdimage.RemoteAddress{URL: server.URLs()[0]}, nil)
	r.must(err)
}

func (r *runner) settingsStep(words []string) bool {
	switch words[0] {
	case "remotes", "remote-add", "remote-rename", "remote-set-url", "remote-remove":
	default:
		return false
	}
	settings := r.settings()
	defer settings.Close()
	switch words[0] {
	case "remotes":
		remotes, err := settings.Remotes()
		if r.failed(err) {
			return true
		}
		for _, remote := range remotes {
			public := "private"
			if remote.Public {
				public = "public"
			}
			r.line("%s %s %s %s", remote.Name, quote(remote.URL), remote.Protocol, public)
		}
	case "remote-add":
		r.failed(settings.Add(words[1], lxdimage.RemoteAddress{URL: words[2], Protocol: words[3]}))
	case "remote-rename":
		r.failed(settings.Rename(words[1], words[2]))
	case "remote-set-url":
		r.failed(settings.SetURL(words[1], words[2]))
	case "remote-remove":
		r.failed(settings.Remove(words[1]))
	}
	return true
}

func (r *runner) walk(images *lxdimage.Images) {
	defer images.Close()
	for images.Next(r.ctx) {
		r.line("%s", images.Image().Fingerprint)
	}
	r.failed(images.Err())
}

func (r *runner) query(words []string) bool {
	flags := words[1]
	query := lxdimage.ImageQuery{AutoUpdate: strings.Contains(flags, "u"), ByAlias: strings.Contains(flags, "a")}
	truth := func(yes, no string) *bool {
		is := strings.Contains(flags, yes)
		if !is && !strings.Contains(flags, no) {
			return nil
		}
		return &is
	}
	query.Public, query.Cached = truth("p", "q"), truth("c", "k")
	if strings.Contains(flags, "v") {
		query.Type = lxdimage.TypeVirtualMachine
	}
	if words[0] == "totals" {
		images, bytes, err := r.store.Totals(&query)
		if !r.failed(err) {
			r.line("images %d bytes %d", images, bytes)
		}
		return true
	}
	query.Page, query.Filters = uint32(r.number(words[2])), words[3:]
	images, err := r.store.Query(&query)
	if !r.failed(err) {
		r.walk(images)
	}
	return true
}

func (r *runner) bring(words []string) {
	options := lxdimage.CopyOptions{Architectures: []string{"x86_64"}}
	var image *lxdimage.StoredImage
	var err error
	if words[0] == "fetch" {
		image, err = r.store.GetOrFetch(r.ctx, r.remote, words[1], &options)
	} else {
		options.Public = strings.Contains(words[1], "p")
		options.AutoUpdate = strings.Contains(words[1], "u")
		options.ReuseAliases = strings.Contains(words[1], "r")
		options.ReplaceImages = strings.Contains(words[1], "x")
		options.CopyAliases = strings.Contains(words[1], "n")
		options.Aliases = aliases(words[2])
		image, err = r.store.CopyFrom(r.ctx, r.remote, words[3], &options)
	}
	if !r.failed(err) {
		r.showStored(image)
	}
}

func (r *runner) upload(words []string) {
	options := lxdimage.UploadOptions{
		Public:       strings.Contains(words[1], "p"),
		ReuseAliases: strings.Contains(words[1], "r"),
		CopyAliases:  strings.Contains(words[1], "n"),
		Aliases:      aliases(words[2]),
	}
	if of, ok := r.fingerprint(words[3]); ok {
		r.failed(r.remote.Upload(r.ctx, r.store, *of, &options))
	}
}

func (r *runner) refresh(dry bool) {
	settings := r.settings()
	defer settings.Close()
	done, err := r.store.Refresh(r.ctx, &lxdimage.RefreshOptions{DryRun: dry, Settings: settings})
	if r.failed(err) {
		return
	}
	for _, one := range done {
		switch one.Outcome {
		case lxdimage.RefreshedReplaced:
			r.line("replaced %s %s", one.Image, one.Newest)
		case lxdimage.RefreshedCurrent:
			r.line("current %s", one.Image)
		case lxdimage.RefreshedFailed:
			r.line("failed %s %s", one.Image, one.Err.(*lxdimage.Error).Kind)
		default:
			r.line("other %s", one.Image)
		}
	}
}

func (r *runner) mirror(words []string) {
	options := lxdimage.MirrorOptions{Delete: strings.Contains(words[2], "d"), Filters: words[3:]}
	var done *lxdimage.Mirrored
	var err error
	if words[1] == "store" {
		done, err = r.remote.MirrorToStore(r.ctx, r.store, &options)
	} else {
		done, err = r.remote.MirrorToTree(r.ctx, r.tree, &options)
	}
	if r.failed(err) {
		return
	}
	for _, image := range done.Copied {
		r.line("copied %s", image.Fingerprint)
	}
	for _, of := range done.Removed {
		r.line("removed %s", of)
	}
	for of, why := range done.Failed {
		r.line("failed %s %s", of, why.(*lxdimage.Error).Kind)
	}
	r.line("kept %d", done.Kept)
}

func (r *runner) showDelta(delta *lxdimage.Delta, err error) {
	if !r.failed(err) {
		r.line("delta %d new %d copied %d", delta.DeltaBytes, delta.NewBytes, delta.CopiedBytes)
	}
}

func (r *runner) servingStep(words []string) bool {
	switch words[0] {
	case "store-of":
		r.clock = time.Unix(1750000000, 0)
		store, err := lxdimage.OpenDescribedStore(words[1], ".", &lxdimage.StoreOptions{Limits: r.limits, Clock: func() time.Time { return r.clock }})
		if !r.failed(err) {
			if r.store != nil {
				r.store.Close()
			}
			r.store = store
		}
	case "serve":
		r.serve()
	case "cache":
		r.serveCache()
	case "stop":
		r.failed(r.server.Stop())
		if r.logged.Load() == 0 {
			r.t.Fatal("the server logged nothing")
		}
	case "connect":
		r.connect(words)
	case "images":
		images, err := r.remote.Images(r.ctx, words[1:]...)
		if !r.failed(err) {
			r.walk(images)
		}
	case "find":
		image, err := r.remote.Resolve(r.ctx, words[1], &lxdimage.Wanted{Architectures: []string{"x86_64"}, Type: r.imageType(words, 2)})
		if !r.failed(err) {
			r.line("%s", image.Fingerprint)
		}
	case "query", "totals":
		return r.query(words)
	case "delete-unchanged":
		of, ok := r.fingerprint(words[1])
		if !ok {
			return true
		}
		image, err := r.store.Image(*of)
		if !r.failed(err) {
			r.failed(r.store.DeleteUnchanged(image))
		}
	case "copy", "fetch":
		r.bring(words)
	case "upload":
		r.upload(words)
	case "refresh":
		r.refresh(len(words) > 1)
	case "mirror":
		r.mirror(words)
	case "delta":
		level := uint32(0)
		r.showDelta(lxdimage.MakeDelta(r.ctx, words[1], words[2], words[3], &lxdimage.DeltaOptions{Level: &level}))
	case "patch":
		if expected, ok := r.fingerprint(words[1]); ok {
			r.showDelta(lxdimage.ApplyDelta(r.ctx, words[2], words[3], words[4], expected, r.limits))
		}
	default:
		return r.settingsStep(words)
	}
	return true
}
