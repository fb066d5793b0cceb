package cmd

import (
	"encoding/json"
	"fmt"
	"io"
	"slices"
	"strings"
	"sync"

	"github.com/spf13/pflag"
)

// outputFlag adds -o with the formats that a command knows; the first is the default.
func outputFlag(flags *pflag.FlagSet, formats ...string) *output {
	o := &output{value: formats[0], formats: formats}
	flags.VarP(o, "output", "o", "output format: "+strings.Join(formats, ", "))
	return o
}

// output is the value of -o.
type output struct {
	value   string
	formats []string
}

func (o *output) String() string { return o.value }

func (o *output) Type() string { return "format" }

func (o *output) Set(value string) error {
	if !slices.Contains(o.formats, value) {
		return fmt.Errorf("want %s", strings.Join(o.formats, " or "))
	}
	o.value = value
	return nil
}

// json tells whether machines read the output.
func (o *output) json() bool { return o.value == "json" || o.value == "jsonl" }

// checkedWriter remembers that a write failed, so that output which was lost, as on a full disk, is
// never a success.
type checkedWriter struct {
	w      io.Writer
	mu     sync.Mutex
	err    error
	failed func() // called for the first failure; nil: nobody asks
}

// onFailure has a function called when a write fails for the first time.
func (c *checkedWriter) onFailure(failed func()) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.failed = failed
}

func (c *checkedWriter) Write(p []byte) (int, error) {
	n, err := c.w.Write(p)
	if err != nil {
		c.mu.Lock()
		defer c.mu.Unlock()
		if c.err == nil {
			c.err = err
			if c.failed != nil {
				c.failed()
			}
		}
	}
	return n, err
}

// failure is the first error of a write.
func (c *checkedWriter) failure() error {
	c.mu.Lock()
	defer c.mu.Unlock()
	return c.err
}

func writeJSON(w io.Writer, v any) error {
	encoder := json.NewEncoder(w)
	encoder.SetEscapeHTML(false)
	return encoder.Encode(v)
}

// thousands writes a whole number with separators: 12345 becomes 12,345.
func thousands(n int64) string {
	s := fmt.Sprint(n)
	start := len(s) % 3
	if n < 0 {
		start = 1 + (len(s)-1)%3
	}
	var b strings.Builder
	b.WriteString(s[:start])
	for i := start; i < len(s); i += 3 {
		if b.Len() > 0 && s[:start] != "-" || i > start {
			b.WriteByte(',')
		}
		b.WriteString(s[i : i+3])
	}
	return b.String()
}
