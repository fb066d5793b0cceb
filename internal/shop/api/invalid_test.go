package api_test

import (
	"bytes"
	"fmt"
	"net/http"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/evdemo/evdemo/internal/shop"
	"github.com/evdemo/evdemo/internal/shop/api"
)

// faults are the errors of a problem: by pointer, what is wrong there.
func (g got) faults(tb testing.TB) map[string]string {
	tb.Helper()
	all := map[string]string{}
	list, _ := g.requireProblem(tb, http.StatusUnprocessableEntity, "Order not valid")["errors"].([]any)
	for _, one := range list {
		f, _ := one.(map[string]any)
		at, _ := f["pointer"].(string)
		all[at], _ = f["detail"].(string)
	}
	require.Len(tb, all, len(list), "an error told of twice")
	return all
}

func TestAllMistakesAtOnce(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	require.Equal(t, map[string]string{
		"/user_id": "is missing", "/colour": "is not known here", "/a~1b~0": "is not known here",
		"/items/0/quantity": "want a whole number from 1 to 10000", "/items/0/price": "want a whole number of cents, from 0 to 1000000",
		"/items/1": "want an object with a sku, or the sku alone, not a number", "/items/2/sku": "is missing", "/items/2/SKU": "is not known here",
		"/items/3": `"item-99" is not in the catalogue: give a price`, "/items/5/sku": "is there twice",
		"/items/6/sku": "want a string, not null",
	}, s.post(`{"colour":1,"a/b~":{"x":[]},"items":[{"sku":"item-1","quantity":0,"price":-49},7,{"SKU":"item-1"},"item-99","item-1",`+
		`{"sku":"item-2","sku":"item-2"},{"sku":null}]}`).faults(t))
	require.Empty(t, s.log())
}

func TestInvalidOrders(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	order := func(items string) string { return `{"user_id":"u","items":` + items + `}` }
	item := func(members string) string { return order(`[{"sku":"item-1",` + members + `}]`) }
	user := func(id string) string { return `{"user_id":` + id + `,"items":["item-1"]}` }
	for body, at := range map[string]string{
		`null`: "", `[]`: "", `"x"`: "", `7`: "", `true`: "", `{}`: "/user_id,/items", ` [ ] `: "",
		order(`{}`): "/items", order(`"item-1"`): "/items", order(`null`): "/items", order(`[]`): "/items", order(`[[]]`): "/items/0",
		order(`[null]`): "/items/0", order(`[""]`): "/items/0", order(`[{}]`): "/items/0/sku", order(`["item-0"]`): "/items/0",
		order(`["item-01"]`): "/items/0", order(`[{"sku":["item-1"]}]`): "/items/0/sku",
		order(`["` + strings.Repeat("x", 5000) + `"]`):              "/items/0",
		order("[" + strings.Repeat("1,", 9_999) + "1]"):             "/items",
		order("[" + strings.Repeat(`"item-1",`, 100) + `"item-1"]`): "/items",
		item(`"quantity":-1`):                                       "/items/0/quantity", item(`"quantity":0`): "/items/0/quantity", item(`"quantity":10001`): "/items/0/quantity",
		item(`"quantity":1.5`): "/items/0/quantity", item(`"quantity":"1"`): "/items/0/quantity", item(`"quantity":null`): "/items/0/quantity",
		item(`"quantity":true`): "/items/0/quantity", item(`"quantity":[1]`): "/items/0/quantity", item(`"quantity":{}`): "/items/0/quantity",
		item(`"quantity":9223372036854775808`): "/items/0/quantity", item(`"quantity":18446744073709551617`): "/items/0/quantity",
		item(`"quantity":-9223372036854775809`): "/items/0/quantity", item(`"quantity":1e400`): "/items/0/quantity", item(`"quantity":1e300`): "/items/0/quantity",
		item(`"quantity":-1e300`): "/items/0/quantity", item(`"quantity":1e-3`): "/items/0/quantity", item(`"quantity":0.0`): "/items/0/quantity",
		item(`"price":1000001`): "/items/0/price", item(`"price":-50`): "/items/0/price", item(`"price":"50"`): "/items/0/price",
		item(`"price":null`): "/items/0/price", item(`"price":50.5`): "/items/0/price", item(`"quantity":1,"quantity":1`): "/items/0/quantity",
		item(`"Quantity":1`): "/items/0/Quantity", item(`"":1`): "/items/0/", item(`"quantity":1,"\u0071uantity":2`): "/items/0/quantity",
		user(`""`): "/user_id", user(`" a"`): "/user_id", user(`"a\n"`): "/user_id", user(`"a\u0000b"`): "/user_id", user(`"\ud800"`): "/user_id",
		user(`"a\u202eb"`): "/user_id", user(`{"id":1}`): "/user_id", user(`1e9`): "/user_id", user(`"` + strings.Repeat("ä", 129) + `"`): "/user_id",
		`{"user_id":"a","user_id":"a","items":["item-1"]}`:                       "/user_id",
		`{"user_id":"a","items":["item-1"],"items":["item-1"]}`:                  "/items",
		`{"user_id":"a","items":["item-1"],"__proto__":{"admin":true}}`:          "/__proto__",
		`{"user_id":"a","items":["item-1"],"amount":1}`:                          "/amount",
		`{"user_id":"a","items":["item-1"],"` + strings.Repeat("x", 70) + `":1}`: "/" + strings.Repeat("x", 64) + "…",
		`{"user_id":"a","items":["item-1"],"x":` + deep(5000) + `}`:              "/x",
	} {
		faults := s.post(body).faults(t)
		require.Len(t, faults, strings.Count(at, ",")+1, "%.200s: %v", body, faults)
		for one := range strings.SplitSeq(at, ",") {
			require.Contains(t, faults, one, "%.200s", body)
		}
	}
	many := s.post(order("[" + strings.TrimSuffix(strings.Repeat(`{"a":1,"b":2},`, 100), ",") + "]")).faults(t)
	require.Len(t, many, 100, "and not all three hundred")
	require.Empty(t, s.log())
}

func deep(n int) string { return strings.Repeat(`[`, n) + strings.Repeat(`]`, n) }

func TestWhatIsNoJSON(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	for _, body := range []string{
		``, ` `, `{`, `}`, `{"user_id"}`, `{"user_id":}`, `{"user_id":"a",}`, `{'user_id':'a'}`, `{user_id:"a"}`, anOrder + `x`, anOrder + anOrder, anOrder + `,`,
		"\ufeff" + anOrder, `{"user_id":"` + "\xff" + `","items":["item-1"]}`, "\x00" + anOrder, `{"user_id":"a` + "\n" + `","items":["item-1"]}`,
		`{"user_id":"\x41","items":["item-1"]}`, `{"user_id":"a","items":[{"sku":"item-1","quantity":01}]}`, `{"user_id":"a","items":[{"sku":"item-1","quantity":+1}]}`,
		`{"user_id":"a","items":[{"sku":"item-1","quantity":NaN}]}`, `{"user_id":"a","items":[{"sku":"item-1","quantity":0x1}]}`, `// {}`, `nul`, `tru`, `-`,
		`{"x":` + deep(20_000) + `}`, strings.Repeat(`{"a":`, 10_001) + "1" + strings.Repeat("}", 10_001), strings.Repeat("[", 60_000), "user_id=a&items=item-1",
		"\x1f\x8b\x08\x00", `{"user_id":"` + "\xed\xa0\x80" + `","items":["item-1"]}`,
	} {
		detail := s.post(body).requireProblem(t, http.StatusBadRequest, "Body is not JSON")["detail"]
		require.Contains(t, detail, "The body is not JSON: ", "%.60q", body)
		require.Less(t, len(fmt.Sprint(detail)), 200)
	}
	require.Empty(t, s.log())
}

func TestValidOrders(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t))
	all := make([]string, 40)
	for i, sku := range shop.SKUs() {
		all[i] = `{"sku":"` + sku + `","quantity":10000}`
	}
	for _, body := range []string{
		anOrder, `{"user_id":"u","items":["item-40"]}`, `{"user_id":"u","items":[{"sku":"item-1","quantity":1.0,"price":5.0e1}]}`,
		`{"user_id":"u","items":[{"sku":"item-1","quantity":100e-2}]}`, "\r\n\t{ \"user_id\" :\"u\", \"items\" : [ \"item-1\" , { \"sku\": \"item-2\" } ] } \n",
		`{"\u0075ser_id":"\u0075","items":["item\u002d1"]}`, `{"user_id":"` + strings.Repeat("ä", 128) + `","items":["item-1"]}`,
		`{"user_id":"名前 😀 \"x\" \\ </script>","items":["item-1"]}`, `{"user_id":"u","items":[` + strings.Join(all, ",") + `]}`,
	} {
		p := s.post(body).placed(t)
		s.get(p.Links["wait"]).order(t)
	}
	log := s.log()
	require.Len(t, log, 9)
	order := s.get("/api/orders/" + log[8].Subject).order(t)
	require.Equal(t, 10_000*(40*50+25*40*39/2), order.Amount)
	require.Equal(t, `名前 😀 "x" \ </script>`, s.get("/api/orders/"+log[7].Subject).order(t).UserID)
}

func TestLargeBodies(t *testing.T) {
	t.Parallel()
	s := serve(t, file(t), func(c *api.Config) { c.MaxBody = 1000 })
	exact := anOrder + strings.Repeat(" ", 1000-len(anOrder))
	s.post(exact).placed(t)
	for _, size := range []int{1001, 1 << 20} {
		body := anOrder + strings.Repeat(" ", size-len(anOrder))
		s.post(body).requireProblem(t, http.StatusRequestEntityTooLarge, "")
		unknown := struct{ *bytes.Reader }{bytes.NewReader([]byte(body))} // whose size nobody knows: it is chunked
		g, err := s.try(http.MethodPost, "/api/orders", unknown, "Content-Type", jsonType)
		require.NoError(t, err)
		g.requireProblem(t, http.StatusRequestEntityTooLarge, "")
	}
	chunked := struct{ *bytes.Reader }{bytes.NewReader([]byte(exact))}
	s.do(http.MethodPost, "/api/orders", chunked, "Content-Type", jsonType).placed(t)
	require.Len(t, s.log(), 2)
}
