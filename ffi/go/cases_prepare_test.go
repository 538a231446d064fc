package lxdimage_test

// Steps that prepare: files, archives, limits.

import (
	"fmt"
	"os"
	"strconv"
	"strings"
)

func (r *runner) append(file, content string) {
	out, err := os.OpenFile(file, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o666)
	r.must(err)
	_, err = out.WriteString(content)
	r.must(err)
	r.must(out.Close())
}

func (r *runner) member(words []string) {
	file, typeflag, name, mode := words[1], words[2], words[3], words[4]
	content := strings.Join(words[5:], " ")
	isLink := typeflag == "1" || typeflag == "2"
	body := content
	if isLink || typeflag == "3" {
		body = ""
	}
	header := make([]byte, 512)
	copy(header, name)
	copy(header[100:], fmt.Sprintf("%07s", mode))
	copy(header[108:], "0000000")
	copy(header[116:], "0000000")
	copy(header[124:], fmt.Sprintf("%011o", len(body)))
	copy(header[136:], "14524776400")
	copy(header[148:], "        ")
	header[156] = typeflag[0]
	if isLink {
		copy(header[157:], content)
	}
	copy(header[257:], "ustar\x0000")
	if typeflag == "3" {
		var major, minor uint32
		_, err := fmt.Sscanf(content, "%d:%d", &major, &minor)
		r.must(err)
		copy(header[329:], fmt.Sprintf("%07o", major))
		copy(header[337:], fmt.Sprintf("%07o", minor))
	}
	sum := 0
	for _, b := range header {
		sum += int(b)
	}
	copy(header[148:], fmt.Sprintf("%06o\x00 ", sum))
	r.append(file, string(header)+body+strings.Repeat("\x00", (512-len(body)%512)%512))
}

func (r *runner) prepareStep(words []string) bool {
	switch words[0] {
	case "member":
		r.member(words)
	case "end":
		r.append(words[1], strings.Repeat("\x00", 1024))
	case "bytes":
		r.append(words[1], words[2])
	case "dir":
		r.must(os.MkdirAll(words[1], 0o777))
	case "link":
		r.must(os.Symlink(words[1], words[2]))
	case "limit":
		value, err := strconv.ParseUint(words[2], 10, 64)
		r.must(err)
		if r.failed(r.limits.Set(words[1], value)) {
			return true
		}
		if found, err := r.limits.Get(words[1]); err != nil || found != value {
			r.t.Fatalf("the limit is %d, not the %d that was set: %v", found, value, err)
		}
	default:
		return false
	}
	return true
}
