package webhook

import (
	"cmp"
	"errors"
	"io"
	"net/http"
	"net/url"
	"slices"
	"strconv"
	"strings"
	"time"
	"unicode"

	"github.com/evdemo/evdemo/worker"
)

const (
	// maxText is how much of an answer an error quotes.
	maxText = 300

	// An answer is read so far and so long, to have the connection back for the next event. What
	// is larger or slower costs its connection.
	maxAnswer  = 64 << 10
	answerTime = time.Second

	// maxQuoted is how much of an answer is looked at for what to quote.
	maxQuoted = 4 << 10

	// maxRetryAfter bounds what a service may ask for.
	maxRetryAfter = 24 * time.Hour
)

// readAnswer gives the beginning of an answer's body, and lets the connection go.
func readAnswer(response *http.Response) []byte {
	defer response.Body.Close()
	if response.StatusCode < http.StatusOK {
		return nil // the connection speaks another protocol now
	}
	// What cannot be read is not quoted, and that is all: the status is known.
	text, err := io.ReadAll(io.LimitReader(response.Body, maxQuoted))
	if err == nil {
		_, _ = io.CopyN(io.Discard, response.Body, maxAnswer-maxQuoted)
	}
	return text
}

// judge says what an answer means.
func (p *Poster) judge(response *http.Response, body []byte) error {
	status := response.StatusCode
	if status >= 200 && status < 300 {
		return nil
	}
	err := errors.New(p.describe(response, body))
	switch {
	case status == http.StatusTooManyRequests, status == http.StatusServiceUnavailable:
		if d := retryAfter(response.Header, time.Now()); d > 0 {
			return worker.RetryAfter(d, err)
		}
		return err
	case status >= 400 && status < 500:
		return worker.Permanent(err)
	default:
		return err
	}
}

// describe gives an answer for a message: the status, and what can be printed of the beginning.
func (p *Poster) describe(response *http.Response, body []byte) string {
	status := strconv.Itoa(response.StatusCode)
	if text := http.StatusText(response.StatusCode); text != "" {
		status += " " + text
	}
	if text := printable(p.private.redact(string(body))); text != "" {
		return status + ": " + text
	}
	return status
}

// printable gives text on one line, without what has no place there, cut to maxText bytes.
func printable(text string) string {
	text = strings.Map(func(c rune) rune {
		switch {
		case unicode.IsSpace(c):
			return ' '
		case c == unicode.ReplacementChar || !unicode.IsPrint(c):
			return -1
		default:
			return c
		}
	}, text)
	text = strings.Join(strings.Fields(text), " ")
	if len(text) > maxText {
		text = strings.ToValidUTF8(text[:maxText], "")
	}
	return text
}

// retryAfter gives how long the service wants to be left alone: seconds, or a date by the service's
// own clock where the answer has one. It is 0 where the answer does not say, or nothing that makes
// sense.
func retryAfter(header http.Header, now time.Time) time.Duration {
	value := strings.TrimSpace(header.Get("Retry-After"))
	if value == "" {
		return 0
	}
	if strings.Trim(value, "0123456789") == "" {
		seconds, err := strconv.ParseInt(value, 10, 64)
		if err != nil { // beyond all numbers
			return maxRetryAfter
		}
		return time.Duration(min(seconds, int64(maxRetryAfter/time.Second))) * time.Second
	}
	at, err := http.ParseTime(value)
	if err != nil {
		return 0
	}
	if sent, err := http.ParseTime(header.Get("Date")); err == nil {
		now = sent
	}
	return min(max(at.Sub(now), 0), maxRetryAfter)
}

// redactor takes out of a text what is nobody's business. Services quote the request that they did
// not like.
type redactor struct{ replacer *strings.Replacer }

// leastSecret is how long a text is that is taken for a secret. Shorter ones stand in every answer.
const leastSecret = 4

// newRedactor makes one for the password, the query, and the headers that are sent with every event.
func newRedactor(target *url.URL, header http.Header) *redactor {
	secrets := []string{target.RawQuery}
	if user := target.User; user != nil {
		password, _ := user.Password()
		secrets = append(secrets, user.String(), user.Username()+":"+password)
		secrets = append(secrets, spellings(password)...)
	}
	for _, values := range target.Query() {
		for _, value := range values {
			secrets = append(secrets, spellings(value)...)
		}
	}
	for name, values := range header {
		if name == headerUserAgent {
			continue
		}
		for _, value := range values {
			_, credentials, _ := strings.Cut(value, " ") // behind Bearer or Basic
			secrets = append(secrets, value, credentials)
		}
	}
	secrets = slices.DeleteFunc(secrets, func(secret string) bool { return len(secret) < leastSecret })
	// The longest first, or a part of it would be found in its place.
	slices.SortFunc(secrets, func(a, b string) int { return cmp.Or(len(b)-len(a), strings.Compare(a, b)) })
	var pairs []string
	for _, secret := range slices.Compact(secrets) {
		pairs = append(pairs, secret, "xxxxx")
	}
	return &redactor{strings.NewReplacer(pairs...)}
}

// spellings gives a text as it is and as it may stand in a URL.
func spellings(s string) []string { return []string{s, url.QueryEscape(s), url.PathEscape(s)} }

func (r *redactor) redact(text string) string { return r.replacer.Replace(text) }
