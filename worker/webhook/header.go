package webhook

import (
	"encoding/base64"
	"errors"
	"fmt"
	"maps"
	"net/http"
	"net/url"
	"slices"
	"strings"
)

// ParseHeader reads a header as people write it, "Name: value", and gives the name as net/http
// spells it. A value may be empty. Refused, besides what HTTP does not allow, are the headers that
// are not the caller's to set:
//
//   - those of the event: ce-*, Content-Type, evdemo-*, traceparent, tracestate, webhook-*;
//   - those of the connection: Connection, Content-Length, Keep-Alive, Proxy-Authenticate,
//     Proxy-Authorization, Proxy-Connection, TE, Trailer, Transfer-Encoding, Upgrade.
//
// No error has the value in it: it may be a password.
func ParseHeader(s string) (name, value string, err error) {
	name, value, found := strings.Cut(s, ":")
	if !found {
		return "", "", errors.New(`header without a colon: want "Name: value"`)
	}
	name = http.CanonicalHeaderKey(strings.Trim(name, " \t"))
	value = strings.Trim(value, " \t")
	if err := checkHeader(name, value); err != nil {
		return "", "", err
	}
	return name, value, nil
}

// checkHeaders finds all headers that cannot be sent.
func checkHeaders(headers http.Header) error {
	var errs []error
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		for _, value := range headers[name] {
			if err := checkHeader(http.CanonicalHeaderKey(name), value); err != nil {
				errs = append(errs, err)
			}
		}
	}
	return errors.Join(errs...)
}

// checkHeader tells why a header cannot be sent.
func checkHeader(name, value string) error {
	switch {
	case name == "":
		return errors.New("header without a name")
	case strings.ContainsFunc(name, notToken):
		return fmt.Errorf("header %.40q: a name has letters, digits and hyphens", name)
	case strings.ContainsFunc(value, control):
		return fmt.Errorf("header %s: its value has a control character", name)
	}
	for _, prefix := range []string{"Ce-", "Evdemo-", "Webhook-"} {
		if strings.HasPrefix(name, prefix) {
			return fmt.Errorf("header %s: %s* are the event's own", name, strings.ToLower(prefix))
		}
	}
	switch name {
	case "Content-Type", "Traceparent", "Tracestate":
		return fmt.Errorf("header %s: is the event's own", name)
	case "Connection", "Content-Length", "Keep-Alive", "Proxy-Authenticate", "Proxy-Authorization", "Proxy-Connection",
		"Te", "Trailer", "Transfer-Encoding", "Upgrade":
		return fmt.Errorf("header %s: is the connection's own", name)
	default:
		return nil
	}
}

// notToken tells whether a header's name cannot have c (RFC 9110, section 5.6.2).
func notToken(c rune) bool {
	switch {
	case 'a' <= c && c <= 'z', 'A' <= c && c <= 'Z', '0' <= c && c <= '9':
		return false
	default:
		return !strings.ContainsRune("!#$%&'*+-.^_`|~", c)
	}
}

func control(c rune) bool { return c < ' ' && c != '\t' || c == 0x7f }

// parseURL reads a URL; no error has a password in it.
func parseURL(raw string) (*url.URL, error) {
	u, err := url.Parse(raw)
	switch {
	case raw == "":
		return nil, errors.New("URL is empty")
	case err != nil && strings.Contains(raw, "@"):
		return nil, errors.New("URL cannot be read: percent-encode special characters in user and password (@ is %40, / is %2F)")
	case err != nil:
		if inner, ok := errors.AsType[*url.Error](err); ok {
			err = inner.Err
		}
		return nil, fmt.Errorf("URL cannot be read: %w", err)
	case u.Scheme != "http" && u.Scheme != "https":
		return nil, errors.New("URL must begin with http:// or https://")
	case u.Hostname() == "":
		return nil, errors.New("URL has no host")
	default:
		return u, nil
	}
}

// prepare gives what all requests have in common: the URL without what is not sent with it, the
// headers, and the host that is asked for.
func prepare(target *url.URL, headers http.Header) (address string, header http.Header, host string) {
	bare := *target
	bare.User, bare.Fragment, bare.RawFragment = nil, "", ""
	header = http.Header{headerUserAgent: {userAgent}}
	if user := target.User; user != nil {
		password, _ := user.Password()
		header.Set("Authorization", "Basic "+base64.StdEncoding.EncodeToString([]byte(user.Username()+":"+password)))
	}
	given := http.Header{}
	for _, name := range slices.Sorted(maps.Keys(headers)) {
		canonical := http.CanonicalHeaderKey(name)
		given[canonical] = append(given[canonical], headers[name]...)
	}
	host = given.Get("Host")
	delete(given, "Host")
	maps.Copy(header, given)
	return bare.String(), header, host
}
