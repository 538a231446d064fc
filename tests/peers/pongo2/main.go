// Answers template cases with a real pongo2: one JSON object a line in, one a line out.
// Built against whichever github.com/flosch/pongo2 is in GOPATH, in the shape that LXD uses it:
// named types for the trigger and the devices, the refused tags banned, autoescape off around the file.
package main

import (
	"bufio"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"strconv"
	"strings"
	"time"

	"github.com/flosch/pongo2"

	"config"
	"instance"
)

type request struct {
	Template []byte                 `json:"template"`
	Context  map[string]interface{} `json:"context"`
}

type answer struct {
	Output []byte `json:"output"`
	Error  string `json:"error,omitempty"`
	Stage  string `json:"stage,omitempty"`
	Panic  bool   `json:"panic,omitempty"`
}

func value(raw interface{}) interface{} {
	switch v := raw.(type) {
	case map[string]interface{}:
		if text, ok := v["$int"].(string); ok {
			number, _ := strconv.Atoi(text)
			return number
		}
		if text, ok := v["$float"].(string); ok {
			number, _ := strconv.ParseFloat(text, 64)
			return number
		}
		if text, ok := v["$bytes"].(string); ok {
			data, _ := base64.StdEncoding.DecodeString(text)
			return string(data)
		}
		return typedMap(v)
	case []interface{}:
		texts := make([]string, 0, len(v))
		items := make([]interface{}, 0, len(v))
		for _, item := range v {
			made := value(item)
			items = append(items, made)
			if text, ok := made.(string); ok {
				texts = append(texts, text)
			}
		}
		if len(v) > 0 && len(texts) == len(v) {
			return texts
		}
		return items
	}
	return raw
}

func typedMap(raw map[string]interface{}) interface{} {
	texts := map[string]string{}
	maps := map[string]map[string]string{}
	items := map[string]interface{}{}
	for key, item := range raw {
		made := value(item)
		items[key] = made
		if text, ok := made.(string); ok {
			texts[key] = text
		}
		if inner, ok := made.(map[string]string); ok {
			maps[key] = inner
		}
	}
	if len(raw) > 0 && len(texts) == len(raw) {
		return texts
	}
	if len(raw) > 0 && len(maps) == len(raw) {
		return maps
	}
	return items
}

func texts(raw interface{}) map[string]string {
	out := map[string]string{}
	entries, _ := raw.(map[string]interface{})
	for key, item := range entries {
		out[key], _ = item.(string)
	}
	return out
}

func context(raw map[string]interface{}) pongo2.Context {
	out := pongo2.Context{}
	for name, item := range raw {
		switch name {
		case "$raw":
		case "$config":
			entries := texts(item)
			out["config"] = entries
			out["config_get"] = func(key, fallback *pongo2.Value) *pongo2.Value {
				text, ok := entries[key.String()]
				if !ok {
					return fallback
				}
				return pongo2.AsValue(strings.TrimRight(text, "\r\n"))
			}
		case "trigger":
			text, _ := item.(string)
			out[name] = instance.TemplateTrigger(text)
		case "devices":
			devices := config.Devices{}
			entries, _ := item.(map[string]interface{})
			for key, device := range entries {
				devices[key] = config.Device(texts(device))
			}
			out[name] = devices
		default:
			out[name] = value(item)
		}
	}
	return out
}

func parse(source string) (*pongo2.Template, error) {
	set := pongo2.NewSet("images", pongo2.DefaultLoader)
	for _, tag := range []string{"extends", "import", "include", "ssi"} {
		if err := set.BanTag(tag); err != nil {
			return nil, err
		}
	}
	return set.FromString(source)
}

func render(in request) (out answer) {
	out.Stage = "parse"
	defer func() {
		if reason := recover(); reason != nil {
			out = answer{Error: fmt.Sprint("panic: ", reason), Stage: out.Stage, Panic: true}
		}
	}()
	source := string(in.Template)
	if in.Context["$raw"] != true {
		source = "{% autoescape off %}" + source + "{% endautoescape %}"
	}
	template, err := parse(source)
	if err != nil {
		return answer{Error: err.Error(), Stage: "parse"}
	}
	out.Stage = "exec"
	data, err := template.ExecuteBytes(context(in.Context))
	if err != nil {
		return answer{Error: err.Error(), Stage: "exec"}
	}
	return answer{Output: data}
}

// bench parses and renders each file of a list over and over, and prints nanoseconds for one time.
func bench(in request) {
	rounds := 20000
	start := time.Now()
	for i := 0; i < rounds; i++ {
		render(in)
	}
	fmt.Println(time.Since(start).Nanoseconds() / int64(rounds))
}

func main() {
	lines := bufio.NewReaderSize(os.Stdin, 1<<20)
	out := bufio.NewWriter(os.Stdout)
	encoder := json.NewEncoder(out)
	for {
		line, err := lines.ReadBytes('\n')
		if len(line) > 0 {
			var in request
			if err := json.Unmarshal(line, &in); err != nil {
				fmt.Fprintln(os.Stderr, err)
				os.Exit(1)
			}
			if len(os.Args) > 1 && os.Args[1] == "bench" {
				bench(in)
			} else if err := encoder.Encode(render(in)); err != nil {
				os.Exit(1)
			}
			out.Flush()
		}
		if err != nil {
			return
		}
	}
}
