package localbroker

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"regexp"
	"slices"
	"strings"
	"time"
)

// tailLimit is how far back Tail and Follow look.
const tailLimit = 1 << 20

// Tail returns the last n lines that the file holds, of those in its last mebibyte. A file that
// does not exist has none.
func Tail(path string, n int) ([]string, error) {
	file, err := os.Open(path)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	defer file.Close()
	return tail(file, n)
}

// tail reads the last n lines and leaves the file at its end.
func tail(file *os.File, n int) ([]string, error) {
	size, err := file.Seek(0, io.SeekEnd)
	if err != nil {
		return nil, err
	}
	from, err := file.Seek(max(0, size-tailLimit), io.SeekStart)
	if err != nil {
		return nil, err
	}
	content, err := io.ReadAll(file)
	if err != nil {
		return nil, err
	}
	var lines []string
	for line := range bytes.Lines(content) {
		lines = append(lines, string(bytes.TrimRight(line, "\r\n")))
	}
	if from > 0 && len(lines) > 0 {
		lines = lines[1:] // cut in two
	}
	return lines[max(0, len(lines)-max(0, n)):], nil
}

// Follow writes the last n lines that the file holds and then what is appended to it, until ctx ends.
// It goes on with the new file when the old one is moved away, as RabbitMQ does when it has grown.
func Follow(ctx context.Context, w io.Writer, path string, n int) error {
	file, err := os.Open(path)
	if err != nil {
		return err
	}
	defer func() { _ = file.Close() }()
	lines, err := tail(file, n)
	if err != nil {
		return err
	}
	for _, line := range lines {
		if _, err := fmt.Fprintln(w, line); err != nil {
			return err
		}
	}
	for {
		if _, err := io.Copy(w, file); err != nil {
			return err
		}
		if next := successor(file, path); next != nil {
			if _, err := io.Copy(w, file); err != nil { // what was written before it was moved
				return err
			}
			_ = file.Close()
			file = next
			continue
		}
		if pause(ctx, 200*time.Millisecond) != nil {
			return nil
		}
	}
}

// successor opens the file that stands at path now, if it is another one.
func successor(file *os.File, path string) *os.File {
	next, err := os.Open(path)
	if err != nil {
		return nil
	}
	was, err1 := file.Stat()
	is, err2 := next.Stat()
	if err1 == nil && err2 == nil && !os.SameFile(was, is) {
		return next
	}
	_ = next.Close()
	return nil
}

// logPrefix is what RabbitMQ puts before every line: time, level and process.
var logPrefix = regexp.MustCompile(`^\S+ \S+ \[\w+\] <[\d.]+> ?`)

// erlangReport is how a report of a process that fell begins; its lines share one prefix.
var erlangReport = regexp.MustCompile(`^ +(supervisor|crasher):`)

// lastWords are the lines that tell why a server did not come up, without their prefix: those
// around RabbitMQ's line BOOT FAILED, without the banner before it and without Erlang's reports of
// processes that fall one after the other.
func (l layout) lastWords() []string {
	lines, err := Tail(l.startupLog(), 1000)
	if err != nil {
		return []string{err.Error()}
	}
	return lastWords(lines)
}

func lastWords(log []string) []string {
	const before, after = 10, 20
	lines := make([]string, 0, len(log))
	report := ""
	for _, line := range log {
		prefix := logPrefix.FindString(line)
		text := strings.TrimRight(strings.TrimPrefix(line, prefix), "= \r")
		if erlangReport.MatchString(text) {
			report = prefix
		}
		if report == "" || prefix != report {
			lines = append(lines, text)
		}
	}
	if banner := slices.Index(lines, "  Starting broker..."); banner >= 0 {
		lines = lines[banner+1:]
	}
	end := len(lines)
	if failed := slices.Index(lines, "BOOT FAILED"); failed >= 0 {
		end = min(end, failed+after)
	}
	var words []string
	for _, line := range lines[max(0, end-before-after):end] {
		if line != "" && !slices.Contains(words, line) {
			words = append(words, line)
		}
	}
	return words
}
