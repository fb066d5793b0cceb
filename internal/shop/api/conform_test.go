package api_test

import (
	"bytes"
	"errors"
	"fmt"
	"io"
	"net/http"
	"strconv"
	"strings"
	"sync"
	"testing"

	"github.com/pb33f/libopenapi"
	validator "github.com/pb33f/libopenapi-validator"
	"github.com/pb33f/libopenapi-validator/config"
	v3 "github.com/pb33f/libopenapi/datamodel/high/v3"
	"github.com/pb33f/libopenapi/orderedmap"
	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/shop/api"
	"github.com/evdemo/evdemo/internal/shop/problem"
)

// contract is what the OpenAPI document promises. Every answer that a test gets is held to it.
type contract struct {
	model     *v3.Document
	validator validator.Validator

	mu   sync.Mutex
	seen map[string]bool // "POST /api/orders 202"
}

// promised is the contract of all tests here, which together must have seen all of it.
var promised = newContract() //nolint:gochecknoglobals // tests that know nothing of each other share it

func newContract() *contract {
	document, err := libopenapi.NewDocument(api.Document())
	if err != nil {
		panic(err)
	}
	model, err := document.BuildV3Model()
	if err != nil {
		panic(err)
	}
	v, errs := validator.NewValidator(document, config.WithFormatAssertions())
	if len(errs) > 0 {
		panic(errors.Join(errs...))
	}
	return &contract{model: &model.Model, validator: v, seen: map[string]bool{}}
}

// operation finds the operation of a request. Percent signs in a path's segment do not matter to which it is.
func (c *contract) operation(method, path string) (name string, operation *v3.Operation) {
	segments := strings.Split(path, "/")
	for template, item := range c.model.Paths.PathItems.FromOldest() {
		parts := strings.Split(template, "/")
		matches := len(parts) == len(segments)
		for i := 0; matches && i < len(parts); i++ {
			matches = parts[i] == segments[i] || strings.HasPrefix(parts[i], "{") && segments[i] != ""
		}
		if !matches {
			continue
		}
		if method == http.MethodHead {
			method = http.MethodGet
		}
		if method != strings.ToUpper(method) { // methods have one spelling
			return template, nil
		}
		return method + " " + template, item.GetOperations().GetOrZero(strings.ToLower(method))
	}
	return "", nil
}

// check holds an answer to the contract.
func (c *contract) check(r *http.Request, status int, header http.Header, body []byte) error {
	name, operation := c.operation(r.Method, r.URL.EscapedPath())
	if operation == nil {
		return checkUndocumented(status, header, name != "")
	}
	code := strconv.Itoa(status)
	promise := operation.Responses.Codes.GetOrZero(code)
	if promise == nil {
		return fmt.Errorf("%s is not documented to answer %s: %s", name, code, body)
	}
	for wanted, h := range promise.Headers.FromOldest() {
		if h.Required && header.Get(wanted) == "" {
			return fmt.Errorf("%s %s lacks the header %s", name, code, wanted)
		}
	}
	if header.Get("Content-Type") == problem.ContentType && header.Get("Cache-Control") != "no-store" {
		return errors.New("a problem that may be stored")
	}
	c.mu.Lock()
	defer c.mu.Unlock()
	c.seen[name+" "+code] = true
	if r.Method == http.MethodHead {
		return nil
	}
	if orderedmap.Len(promise.Content) == 0 {
		if len(body) > 0 {
			return fmt.Errorf("%s %s has a body", name, code)
		}
		return nil
	}
	return c.checkBody(r, status, header, body)
}

func (c *contract) checkBody(r *http.Request, status int, header http.Header, body []byte) error {
	response := &http.Response{StatusCode: status, Header: header, Request: r, Body: io.NopCloser(bytes.NewReader(body))}
	if ok, faults := c.validator.ValidateHttpResponse(r, response); !ok {
		var all []error
		for _, f := range faults {
			all = append(all, fmt.Errorf("%s %s: %s: %s", r.Method, r.URL.Path, f.Message, f.Reason))
			for _, s := range f.SchemaValidationErrors {
				all = append(all, fmt.Errorf("  %s: %s", s.FieldPath, s.Reason))
			}
		}
		return errors.Join(append(all, fmt.Errorf("  %d %s", status, body))...)
	}
	return nil
}

// checkUndocumented holds answers to what nobody promised anything about.
func checkUndocumented(status int, header http.Header, path bool) error {
	switch {
	case header.Get("Content-Type") != problem.ContentType:
		return fmt.Errorf("what is not documented is answered with %s", header.Get("Content-Type"))
	case path && status == http.StatusMethodNotAllowed && header.Get("Allow") != "":
		return nil
	case status == http.StatusNotFound:
		return nil
	default:
		return fmt.Errorf("what is not documented is answered with %d", status)
	}
}

// missing is what is documented and no test has seen.
func (c *contract) missing() (all []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for template, item := range c.model.Paths.PathItems.FromOldest() {
		for method, operation := range item.GetOperations().FromOldest() {
			for code := range operation.Responses.Codes.FromOldest() {
				if name := strings.ToUpper(method) + " " + template + " " + code; !c.seen[name] {
					all = append(all, name)
				}
			}
		}
	}
	return all
}

// held is a transport that holds answers to the contract.
type held struct{ http.RoundTripper }

func (h held) RoundTrip(r *http.Request) (*http.Response, error) {
	response, err := h.RoundTripper.RoundTrip(r)
	if err != nil {
		return nil, err
	}
	body, err := io.ReadAll(response.Body)
	if err = errors.Join(err, response.Body.Close()); err != nil {
		return nil, err
	}
	response.Body = io.NopCloser(bytes.NewReader(body))
	if err := promised.check(r, response.StatusCode, response.Header, body); err != nil {
		return nil, fmt.Errorf("not as documented: %w", err)
	}
	return response, nil
}

func TestDocumentIsValid(t *testing.T) {
	t.Parallel()
	ok, faults := promised.validator.ValidateDocument()
	for _, f := range faults {
		t.Error(f.Message, f.Reason)
	}
	require.True(t, ok)
}

// A check that cannot fail would hold nobody to anything.
func TestContractFindsWhatIsWrong(t *testing.T) {
	t.Parallel()
	c := newContract()
	require.Contains(t, c.missing(), "POST /api/orders 202")
	request, err := http.NewRequestWithContext(t.Context(), http.MethodPost, "http://127.0.0.1/api/orders", nil)
	require.NoError(t, err)
	const id = "order-0198c5a2-7c1e-7d8a-9a51-0242ac120002"
	good := `{"id":"` + id + `","version":1,"status":"pending","links":{"self":"a","wait":"b","history":"c"}}`
	check := func(status int, kind, location, body string) error {
		header := http.Header{"Content-Type": {kind}}
		if location != "" {
			header.Set("Location", location)
		}
		return c.check(request, status, header, []byte(body))
	}
	const at = "/api/orders/" + id
	require.NoError(t, check(http.StatusAccepted, jsonType, at, good))
	require.NotContains(t, c.missing(), "POST /api/orders 202")
	for what, err := range map[string]error{
		"status":       check(http.StatusOK, jsonType, at, good),
		"header":       check(http.StatusAccepted, jsonType, "", good),
		"content type": check(http.StatusAccepted, "text/plain", at, good),
		"no JSON":      check(http.StatusAccepted, jsonType, at, good[1:]),
		"type":         check(http.StatusAccepted, jsonType, at, strings.Replace(good, ":1", `:"1"`, 1)),
		"unknown":      check(http.StatusAccepted, jsonType, at, strings.Replace(good, `{"id"`, `{"x":1,"id"`, 1)),
		"pattern":      check(http.StatusAccepted, jsonType, at, strings.Replace(good, "order-", "ordre-", 1)),
		"missing":      check(http.StatusAccepted, jsonType, at, strings.Replace(good, `"version":1,`, "", 1)),
		"retry":        check(http.StatusTooManyRequests, problem.ContentType, "", `{"type":"about:blank","title":"x","status":429}`),
		"problem":      check(http.StatusUnsupportedMediaType, problem.ContentType, "", `{"title":"x","status":415}`),
	} {
		require.Error(t, err, what)
	}
}
