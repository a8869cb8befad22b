package audit_test

// Of what is so today only, the day is said; and what tunnels have to carry is asked of a line that could go.
var lastingFindings = []struct {
	rules string
	want  []string
}{
	{"*.test:443 #@ expires=2028-01-01\n!x.test:443\n*.x.test:443\n", []string{
		"decides-later 2: '!x.test:443' decides nothing until 2028-01-01: line 1 (*.test:443) comes first, and what expires then leaves it to this line; x.test:443=198.51.100.1 is decided by line 1 *.test:443",
		"decides-later 3: '*.x.test:443' decides nothing until 2028-01-01: line 1 (*.test:443) comes first, and what expires then leaves it to this line; x.test:443=198.51.100.1 is decided by line 1 *.test:443"}},
	{"*.test:443 #@ expires=2028-01-01\n*.x.test:443\n!x.test:443\n", []string{
		"decides-later 2: '*.x.test:443' decides nothing until 2028-01-01: line 1 (*.test:443) comes first, and what expires then leaves it to this line; x.test:443=198.51.100.1 is decided by line 1 *.test:443",
		"never-decides 3: '!x.test:443' never decides: line 2 (*.x.test:443) comes first; x.test:443=198.51.100.1 is decided by line 1 *.test:443"}},
	{"a.test #@ expires=2028-01-01\nb.test #@ expires=2028-02-01\n!a.test\n!b.test:80\n", []string{
		"decides-later 3: '!a.test' decides nothing until 2028-01-01: line 1 (a.test) comes first, and what expires then leaves it to this line; a.test:443=198.51.100.1 is decided by line 1 a.test",
		"decides-later 4: '!b.test:80' decides nothing until 2028-02-01: line 2 (b.test) comes first, and what expires then leaves it to this line; b.test:80=198.51.100.1 is decided by line 2 b.test"}},
	{"a.test:443 #@ protocol=ssh\n*.test:443\n", nil},
	{"a.test:443 #@ protocol=tls\n*.test:443\n", []string{"redundant 1: 'a.test:443' could go: without it, all is decided alike by line 2 (*.test:443)"}},
	{"a.test:80\n*.test:80 #@ expires=2028-01-01\n", nil},
	{"a.test:80 #@ expires=2027-12-31\n*.test:80 #@ expires=2028-01-01\n", []string{"expiry-in-vain 1: 'a.test:80' expires in vain: what it allows is allowed anyway by line 2 (*.test:80)"}},
}
