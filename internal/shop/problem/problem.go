// Package problem answers HTTP requests that fail with problem details, RFC 9457: a JSON object that programs can tell
// apart by its type and that people can read.
package problem

import (
	"encoding/json"
	"maps"
	"net/http"
	"slices"
	"strconv"
	"strings"
)

// ContentType is the media type of problem details.
const ContentType = "application/problem+json"

// typePrefix begins the types of problems. What follows is the title in lower case, with hyphens.
const typePrefix = "urn:problem:evdemo:"

// maxInstance is the longest path that is repeated in an answer.
const maxInstance = 200

// Problem says why a request was not done. It is an error, so that what finds the problem need not know HTTP's answers.
type Problem struct {
	// Status is the HTTP status.
	Status int
	// Title says what kind of problem it is, the same words for each of its kind. The type is made of it:
	// "Order not found" is urn:problem:evdemo:order-not-found. Empty is the status's own text, with the type about:blank,
	// which means that the status says it all.
	Title string
	// Detail says what was wrong this time, and what to do about it. It must not hold secrets.
	Detail string
	// Extra are further members, such as a list "errors". They do not take the place of title, status and detail; type
	// and instance they may set. What JSON cannot hold is left out.
	Extra map[string]any
}

// Error gives title and detail.
func (p *Problem) Error() string {
	title := p.title()
	if p.Detail == "" {
		return title
	}
	return title + ": " + p.Detail
}

func (p *Problem) title() string {
	if p.Title == "" {
		return http.StatusText(p.Status)
	}
	return p.Title
}

// Type is the URI that programs know this kind of problem by.
func (p *Problem) Type() string {
	if p.Title == "" {
		return "about:blank"
	}
	words := strings.FieldsFunc(strings.ToLower(p.Title), func(c rune) bool {
		return (c < 'a' || c > 'z') && (c < '0' || c > '9')
	})
	return typePrefix + strings.Join(words, "-")
}

// Write answers r with a problem. Headers that the answer needs besides, such as Retry-After or Allow, are set in w before;
// those that describe another body are taken out. The member instance is the path of the request, without its query.
func Write(w http.ResponseWriter, r *http.Request, status int, title, detail string, extra map[string]any) {
	(&Problem{Status: status, Title: title, Detail: detail, Extra: extra}).Write(w, r)
}

// Write answers r with the problem, as the function [Write] does.
func (p *Problem) Write(w http.ResponseWriter, r *http.Request) {
	body := p.json(r)
	header := w.Header()
	for _, name := range []string{"Content-Encoding", "Etag", "Last-Modified"} {
		header.Del(name)
	}
	header.Set("Content-Type", ContentType)
	header.Set("Content-Length", strconv.Itoa(len(body)))
	header.Set("Cache-Control", "no-store")
	header.Set("X-Content-Type-Options", "nosniff")
	w.WriteHeader(p.Status)
	_, _ = w.Write(body) // nobody is left to be told
}

// json writes the object: RFC 9457's members first, then the others by their names.
func (p *Problem) json(r *http.Request) []byte {
	kind, instance := any(p.Type()), any(instanceOf(r))
	if v, given := p.Extra["type"]; given {
		kind = v
	}
	if v, given := p.Extra["instance"]; given {
		instance = v
	}
	body := []byte{'{'}
	add := func(name string, value any) {
		text, err := json.Marshal(value)
		if err != nil || value == "" {
			return
		}
		if len(body) > 1 {
			body = append(body, ',')
		}
		key, _ := json.Marshal(name) // a string always can be written
		body = append(append(append(body, key...), ':'), text...)
	}
	add("type", kind)
	add("title", p.title())
	add("status", p.Status)
	add("detail", p.Detail)
	add("instance", instance)
	for _, name := range slices.Sorted(maps.Keys(p.Extra)) {
		switch name {
		case "type", "title", "status", "detail", "instance":
		default:
			add(name, p.Extra[name])
		}
	}
	return append(body, '}', '\n')
}

// instanceOf is the path of a request, empty where it would not be read as one or is too long to be repeated.
func instanceOf(r *http.Request) string {
	path := r.URL.EscapedPath()
	if len(path) > maxInstance || !strings.HasPrefix(path, "/") || strings.HasPrefix(path, "//") {
		return ""
	}
	return path
}
