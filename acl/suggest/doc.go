// Package suggest makes a list of rules of what access logs have recorded: the smallest that is easy to
// read and allows it, with how often each line was used. It reads the JSON of sluice proxy and sluice tcp,
// and squid's native format.
//
//	var l suggest.Log
//	err := suggest.Read(file, "access.json", l.Add)
//	fmt.Print(l.Suggest(suggest.Options{}))
//
// What comes out does not depend on the order of the lines. It is to be read before it is put in force:
// whoever could ask the gateway for something while the log was written has written in it.
package suggest
