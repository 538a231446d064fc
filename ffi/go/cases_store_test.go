package lxdimage_test

// Steps about a store.

import (
	"path/filepath"
	"strconv"
	"strings"
	"time"

	"lxdimage"
)

func (r *runner) showStored(image *lxdimage.StoredImage) {
	r.line("image %s", image.Fingerprint)
	r.line("type %s form %s architecture %s bytes %d rootfs %d", image.Type, image.Form, quote(image.Architecture), image.Bytes, image.RootfsBytes)
	r.line("created %d expires %d uploaded %d used %d", image.CreatedAt.Unix(), unix(image.ExpiresAt), image.UploadedAt.Unix(), unix(image.LastUsedAt))
	r.line("public %s cached %s auto_update %s revision %d", yes(image.Public), yes(image.Cached), yes(image.AutoUpdate), image.Revision)
	for _, alias := range image.Aliases {
		r.line("alias %s %s", quote(alias.Name), quote(alias.Description))
	}
	for _, property := range image.Properties {
		r.line("property %s %s", quote(property.Key), quote(property.Value))
	}
	json, err := r.store.ImageJSON(image.Fingerprint)
	r.must(err)
	if !strings.Contains(string(json), image.Fingerprint.String()) {
		r.t.Fatalf("the JSON is not the image's: %s", json)
	}
}

func (r *runner) importStep(words []string) {
	options := lxdimage.ImportOptions{
		Public:       strings.Contains(words[1], "p"),
		Cached:       strings.Contains(words[1], "c"),
		ReuseAliases: strings.Contains(words[1], "r"),
		AddAliases:   strings.Contains(words[1], "a"),
	}
	if words[2] != "-" {
		for _, name := range strings.Split(words[2], ",") {
			options.Aliases = append(options.Aliases, lxdimage.Alias{Name: name})
		}
	}
	source, closing := r.files(words[3:])
	defer closing()
	image, err := r.store.Import(r.ctx, source, &options)
	if !r.failed(err) {
		r.showStored(image)
	}
}

func (r *runner) edit(of lxdimage.Fingerprint, changes []string) {
	var edit lxdimage.Edit
	for _, change := range changes {
		switch equals := strings.IndexByte(change, '='); {
		case change == "public" || change == "private":
			public := change == "public"
			edit.Public = &public
		case change[0] == '-':
			edit.Remove = append(edit.Remove, change[1:])
		case strings.HasPrefix(change, "expires:"):
			expires := time.Time{}
			if change != "expires:0" {
				expires = r.seconds(change[8:])
			}
			edit.ExpiresAt = &expires
		case strings.HasPrefix(change, "etag:"):
			edit.ETag = change[5:]
		default:
			edit.Properties = append(edit.Properties, lxdimage.Property{Key: change[:equals], Value: change[equals+1:]})
		}
	}
	image, err := r.store.Edit(of, edit)
	if !r.failed(err) {
		r.showStored(image)
	}
}

func (r *runner) seconds(word string) time.Time {
	value, err := strconv.ParseInt(word, 10, 64)
	r.must(err)
	return time.Unix(value, 0)
}

func (r *runner) openStore(path string) {
	if r.store != nil {
		r.store.Close()
	}
	r.clock = time.Unix(1750000000, 0)
	store, err := lxdimage.OpenStore(path, &lxdimage.StoreOptions{Limits: r.limits, Clock: func() time.Time { return r.clock }, Policy: r.policy})
	if !r.failed(err) {
		r.store = store
	}
}

func (r *runner) prune(word string) {
	unused := time.Duration(r.seconds(word).Unix()) * time.Second
	pruned, err := r.store.Prune(r.ctx, &lxdimage.PruneOptions{UnusedFor: &unused})
	if r.failed(err) {
		return
	}
	for _, image := range pruned.Images {
		why := "unused"
		if image.Why == lxdimage.RemovedExpired {
			why = "expired"
		}
		r.line("%s %s", why, image.Fingerprint)
	}
	r.line("bytes %d", pruned.Bytes)
}

func (r *runner) check(options *lxdimage.CheckOptions) {
	report, err := r.store.Check(r.ctx, options)
	if r.failed(err) {
		return
	}
	r.line("images %d bytes %d", report.Images, report.Bytes)
	for _, finding := range report.Findings {
		r.line("finding %d", finding.Kind)
	}
	for _, left := range report.Unrepaired {
		r.line("unrepaired %d", left.Kind)
	}
}

// aboutOne does the steps whose first word is a fingerprint.
func (r *runner) aboutOne(words []string) bool {
	switch words[0] {
	case "edit", "use", "delete", "export", "export-to", "open":
	default:
		return false
	}
	of, ok := r.fingerprint(words[1])
	if !ok {
		return true
	}
	switch words[0] {
	case "edit":
		r.edit(*of, words[2:])
	case "use":
		r.failed(r.store.MarkUsed(*of))
	case "delete":
		r.failed(r.store.Delete(*of))
	case "export":
		paths, err := r.store.Export(r.ctx, *of, words[2])
		if !r.failed(err) {
			for _, path := range paths {
				r.line("%s", quote(filepath.Base(path)))
			}
		}
	case "export-to":
		hasher, err := lxdimage.NewHasher()
		r.must(err)
		defer hasher.Close()
		written, err := r.store.ExportTo(r.ctx, *of, hasher)
		if !r.failed(err) {
			fingerprint, seen, err := hasher.Fingerprint()
			r.must(err)
			if uint64(written) != seen {
				r.t.Fatalf("%d bytes were written, and %d told", seen, written)
			}
			r.line("%s", fingerprint)
		}
	case "open":
		image, err := r.store.OpenImage(*of, r.limits)
		if r.failed(err) {
			return true
		}
		defer image.Close()
		verification, err := image.Verify(r.ctx, nil)
		if !r.failed(err) {
			r.showVerification(verification, false)
		}
	}
	return true
}

// imageType is the type that a step names with a word, or 0 where it has no such word.
func (r *runner) imageType(words []string, at int) lxdimage.Type {
	if at >= len(words) {
		return 0
	}
	for _, of := range []lxdimage.Type{lxdimage.TypeContainer, lxdimage.TypeVirtualMachine} {
		if of.String() == words[at] {
			return of
		}
	}
	r.t.Fatalf("%q is no type of an image", words[at])
	return 0
}

func (r *runner) storeStep(words []string) bool {
	switch words[0] {
	case "store":
		r.openStore(words[1])
	case "explain":
		misses, err := r.store.Explain(words[1:]...)
		if r.failed(err) {
			return true
		}
		for _, miss := range misses {
			r.line("miss %s", miss.Image.Fingerprint)
			for _, reason := range miss.Reasons {
				r.line("reason %s", quote(reason))
			}
		}
	case "clock":
		r.clock = r.seconds(words[1])
	case "import":
		r.importStep(words)
	case "list":
		images, err := r.store.List(words[1:]...)
		if !r.failed(err) {
			for _, image := range images {
				r.line("%s", image.Fingerprint)
			}
		}
	case "resolve":
		image, err := r.store.ResolvePreferring(words[1], r.imageType(words, 2))
		if !r.failed(err) {
			r.showStored(image)
		}
	case "create-alias", "move-alias":
		alias := lxdimage.Alias{Name: words[1], Description: words[2]}
		if target, ok := r.fingerprint(words[3]); ok {
			point := r.store.CreateAlias
			if words[0] == "move-alias" {
				point = r.store.MoveAlias
			}
			r.failed(point(alias, *target))
		}
	case "rename-alias":
		r.failed(r.store.RenameAliasOfType(words[1], words[2], r.imageType(words, 3)))
	case "delete-alias":
		r.failed(r.store.DeleteAliasOfType(words[1], r.imageType(words, 2)))
	case "aliases":
		aliases, err := r.store.Aliases()
		if !r.failed(err) {
			for _, alias := range aliases {
				r.line("%s %s %s %s", quote(alias.Name), quote(alias.Description), alias.Target, alias.Type)
			}
		}
	case "prune":
		r.prune(words[1])
	case "check":
		r.check(nil)
	case "repair":
		r.check(&lxdimage.CheckOptions{Repair: true})
	default:
		return r.aboutOne(words)
	}
	return true
}
