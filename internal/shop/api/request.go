package api

import (
	"encoding/json"
	"errors"
	"fmt"
	"net/http"
	"strconv"
	"strings"
	"unicode"
	"unicode/utf8"

	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/problem"
)

// What an order may have.
const (
	maxItems    = 100
	maxQuantity = 10_000
	maxUserID   = 128       // characters
	maxSKU      = 64        // characters
	maxPrice    = 1_000_000 // cents, of one piece
	// maxFaults is how many mistakes are told of at once, and maxName how much of a name in them.
	maxFaults = 100
	maxName   = 64
)

// fault is one mistake in a request's body, where a JSON Pointer (RFC 6901) points to.
type fault struct {
	Pointer string `json:"pointer"`
	Detail  string `json:"detail"`
}

// line is an item as it was asked for.
type line struct {
	sku             string
	quantity, price int
	priced          bool // by the client, and not from the catalogue
}

// request is an order as it was asked for.
type request struct {
	userID string
	lines  []line
	faults []fault
}

func (q *request) fault(at, format string, args ...any) {
	if len(q.faults) < maxFaults {
		q.faults = append(q.faults, fault{at, fmt.Sprintf(format, args...)})
	}
}

// parse reads the body of POST /api/orders. What is no JSON is a bad request; otherwise all that is wrong with it is told at
// once.
func parse(body []byte) (*request, *problem.Problem) {
	if err := checkJSON(body); err != nil {
		return nil, &problem.Problem{Status: http.StatusBadRequest, Title: "Body is not JSON", Detail: "The body is not JSON: " + err.Error() + "."}
	}
	q := &request{}
	q.read(body[skipSpace(body, 0):])
	if len(q.faults) > 0 {
		return nil, &problem.Problem{
			Status: http.StatusUnprocessableEntity, Title: "Order not valid",
			Detail: "There is something wrong with the order: see errors.", Extra: map[string]any{"errors": q.faults},
		}
	}
	return q, nil
}

// checkJSON sees that a body is JSON, and text: encoding/json would put another character in the place of what is not.
func checkJSON(body []byte) error {
	if !utf8.Valid(body) {
		return errors.New("it is not UTF-8")
	}
	if json.Valid(body) {
		return nil
	}
	var value any
	err := json.Unmarshal(body, &value)
	if syntax, ok := errors.AsType[*json.SyntaxError](err); ok {
		return fmt.Errorf("at byte %d: %w", syntax.Offset, err)
	}
	return err
}

func (q *request) read(body []byte) {
	if body[0] != '{' {
		q.fault("", "want an object with user_id and items, not %s", kind(body))
		return
	}
	var user, items []byte
	q.each("", body, func(name string, value []byte) bool {
		switch name {
		case "user_id":
			user = value
		case "items":
			items = value
		default:
			return false
		}
		return true
	})
	if q.userID = q.name("/user_id", user, maxUserID); items == nil {
		q.fault("/items", "is missing")
		return
	}
	q.readItems(items)
}

// each gives the members of an object to take, which returns false for those that it does not know. A member that is there
// twice is a mistake: readers differ in which of them they take.
func (q *request) each(at string, object []byte, take func(name string, value []byte) bool) {
	var known [8]string // there are fewer
	n := 0
	for name, value := range members(object) {
		twice := false
		for _, before := range known[:n] {
			twice = twice || before == name
		}
		switch {
		case twice:
			q.fault(at+pointer(name), "is there twice")
		case take(name, value):
			known[n] = name
			n++
		default:
			q.fault(at+pointer(cut(name)), "is not known here")
		}
	}
}

// cut shortens a name to be told.
func cut(name string) string {
	if len(name) <= maxName {
		return name
	}
	return strings.ToValidUTF8(name[:maxName], "") + "…"
}

func (q *request) readItems(items []byte) {
	if items[0] != '[' {
		q.fault("/items", "want an array, not %s", kind(items))
		return
	}
	n := 0
	for range elements(items) {
		n++
	}
	if n == 0 || n > maxItems {
		q.fault("/items", "want 1 to %d items, not %d", maxItems, n)
		return
	}
	q.lines = make([]line, 0, n)
	for i, item := range elements(items) {
		q.readItem("/items/"+strconv.Itoa(i), item)
	}
}

func (q *request) readItem(at string, item []byte) {
	one := line{quantity: 1}
	switch item[0] {
	case '"':
		one.sku = q.name(at, item, maxSKU)
		one.price = q.catalogued(at, one.sku)
	case '{':
		q.readMembers(at, item, &one)
	default:
		q.fault(at, "want an object with a sku, or the sku alone, not %s", kind(item))
	}
	q.lines = append(q.lines, one)
}

func (q *request) readMembers(at string, item []byte, one *line) {
	var sku, quantity, price []byte
	q.each(at, item, func(name string, value []byte) bool {
		switch name {
		case "sku":
			sku = value
		case "quantity":
			quantity = value
		case "price":
			price = value
		default:
			return false
		}
		return true
	})
	one.sku = q.name(at+"/sku", sku, maxSKU)
	if quantity != nil {
		n, ok := integer(quantity)
		if quantity[0] == '"' || !ok || n < 1 || n > maxQuantity {
			q.fault(at+"/quantity", "want a whole number from 1 to %d", maxQuantity)
		}
		one.quantity = n
	}
	if price == nil {
		one.price = q.catalogued(at+"/sku", one.sku)
		return
	}
	n, ok := integer(price)
	if price[0] == '"' || !ok || n < 0 || n > maxPrice {
		q.fault(at+"/price", "want a whole number of cents, from 0 to %d", maxPrice)
	}
	one.price, one.priced = n, true
}

// catalogued is the price of what is in the catalogue.
func (q *request) catalogued(at, sku string) (cents int) {
	cents, ok := shop.Price(sku)
	if !ok && sku != "" {
		q.fault(at, "%q is not in the catalogue: give a price", sku)
	}
	return cents
}

// name reads a string that names something, empty where it is none.
func (q *request) name(at string, raw []byte, most int) string {
	if raw == nil {
		q.fault(at, "is missing")
		return ""
	}
	if raw[0] != '"' {
		q.fault(at, "want a string, not %s", kind(raw))
		return ""
	}
	s := text(raw)
	switch n := utf8.RuneCountInString(s); {
	case n == 0 || n > most:
		q.fault(at, "want 1 to %d characters, not %d", most, n)
	case strings.TrimSpace(s) != s:
		q.fault(at, "begins or ends with a space")
	case strings.ContainsFunc(s, unprintable):
		q.fault(at, "has characters in it that cannot be printed")
	default:
		return s
	}
	return ""
}

// unprintable is what has no place in a name. U+FFFD stands for what was no character.
func unprintable(c rune) bool {
	return c == utf8.RuneError || c != ' ' && !unicode.IsPrint(c)
}
