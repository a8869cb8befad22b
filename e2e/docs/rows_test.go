//go:build linux

package docs

const picture = "a picture"

var rows = map[string]row{
	"README.md | Thirty seconds | console 1":             {run: thirtySeconds},
	"README.md | Six lines of rules |  1":                {run: sixLines},
	"README.md | Try it | console 1":                     {run: makeRun},
	"README.md | Try it | console 2":                     {run: makeDemo},
	"README.md | Try it | console 3":                     {run: sixLinesInForce},
	"README.md | Try it | json 1":                        {run: logLine},
	"README.md | Try it | console 4":                     {run: askSixLines},
	"README.md | In a pod | yaml 1":                      {run: environment("proxy")},
	"README.md | Where things are |  1":                  {run: tree},
	"CONTRIBUTING.md | While you write | sh 1":           {run: goTests},
	"docs/architecture.md | Rooms |  1":                  {run: tree},
	"docs/architecture.md | Rooms |  2":                  {test: "cmd/sluice TestAllowedImports", why: picture},
	"docs/architecture.md | The way of one request |  1": {why: picture},
	"docs/changing.md | Changing Sluice |  1":            {run: goTests},

	"docs/deploy.md | Sluice in a cluster | console 1":      {test: "e2e/kube TestManifestsAreTaken", why: "it pushes to a registry; the manifests are applied to a real API server"},
	"docs/deploy.md | A Deployment of your own | console 1": {run: saysInUse},
	"docs/deploy.md | What is tested how | console 1":       {test: "deploy TestPod", why: "the Deployment's containers are run as a node would; podman needs runc, which not every machine has"},

	"docs/directory.md | The directory: who a client is |  1":      {why: picture},
	"docs/directory.md | In a cluster | yaml 1":                    {run: isPartOf("deploy/examples/directory/kustomization.yaml")},
	"docs/failover.md | One address that survives its node |  1":   {why: picture},
	"docs/failover.md | In a cluster | yaml 1":                     {run: isPartOf("deploy/examples/failover/kustomization.yaml")},
	"docs/failover.md | In a cluster | console 1":                  {test: "e2e/kube TestTakeOver", why: "it deletes what an older release has left; that no Endpoints is the Service's but the one that is written is seen there"},
	"docs/failover.md | When nobody holds the address | console 1": {run: kubectlNames},
	"docs/failover.md | When nobody holds the address | yaml 1":    {run: leaseWords},

	"docs/install.md | Installing Sluice | console 1":                                       {test: "e2e/release TestInstallPage", why: "it needs a release"},
	"docs/install.md | From an archive | console 1":                                         {test: "e2e/release TestInstallPage", why: "it needs a release"},
	"docs/install.md | On Debian, by the package | console 1":                               {test: "e2e/release TestInstallPage", why: "it needs a release"},
	"docs/install.md | On Debian, by the package | sh 1":                                    {test: "e2e/release TestDeb", why: "it needs a systemd that runs; the unit's command line is run there, and the unit is judged"},
	"docs/install.md | Ports below 1024, and restarts without a refused client | sh 1":      {test: "e2e/release TestUnits", why: "it needs a systemd that runs"},
	"docs/install.md | Ports below 1024, and restarts without a refused client | console 1": {run: socketActivate},
	"docs/install.md | Make it again | sh 1":                                                {test: "e2e/release TestSameBytes", why: "it takes minutes, and is done there twice"},

	"docs/migrate.md | Before: ask the rules | console 1":               {run: migrateAsks},
	"docs/migrate.md | http-proxy | diff 1":                             {test: "deploy TestMigration", why: "pods"},
	"docs/migrate.md | dns-proxy | diff 1":                              {test: "deploy TestMigration", why: "pods"},
	"docs/migrate.md | Redirect | diff 1":                               {test: "deploy TestMigration", why: "pods"},
	"docs/migrate.md | The community haproxy image | diff 1":            {test: "deploy TestMigration", why: "pods"},
	"docs/migrate.md | Where the source address needs help | console 1": {why: "commands of OpenStack, for its administrator; no OpenStack runs here"},
	"docs/netsetup.md | When the default route is the only one |  1":    {run: saysLost},

	"docs/tcp.md | sluice tcp | yaml 1": {run: environment("tcp")},
	"docs/tcp.md | sluice tcp | yaml 2": {run: config("tcp", "")},

	"docs/tenants.md | Tenants | yaml 1":                                 {run: config("proxy", "")},
	"docs/tenants.md | Who a client is | yaml 1":                         {run: config("proxy", "")},
	"docs/tenants.md | Who a client is | sh 1":                           {run: writesPassword},
	"docs/tenants.md | Clients by TLS | yaml 1":                          {run: config("proxy", "")},
	"docs/tenants.md | Clients by TLS | sh 1":                            {test: "e2e/http TestClientsByTLS", why: "curl with a certificate of its own is run there"},
	"docs/tenants.md | Clients by TLS | sh 2":                            {run: makesCertificate},
	"docs/tenants.md | Behind a load balancer | yaml 1":                  {run: config("proxy", "rules: '*'\n")},
	"docs/tenants.md | Two namespaces, two source addresses | yaml 1":    {test: "e2e/kube TestDocumentedNamespaces", why: "it needs an API server"},
	"docs/tenants.md | Two namespaces, two source addresses | console 1": {test: "e2e/kube TestDocumentedNamespaces", why: "it needs an API server"},
	"docs/tenants.md | A CI job with a token | yaml 1":                   {test: "e2e/kube TestDocumentedJob", why: "it needs an API server"},
	"docs/tenants.md | A CI job with a token | yaml 2":                   {test: "e2e/kube TestDocumentedJob", why: "it needs an API server"},
	"docs/tenants.md | An agent's sandbox | yaml 1":                      {test: "e2e/http TestDocumentedSandbox", why: "it is run there as it stands"},
	"docs/tenants.md | An agent's sandbox | sh 1":                        {test: "e2e/http TestDocumentedSandbox", why: "it is run there as it stands"},
	"docs/tenants.md | An agent's sandbox | sh 2":                        {test: "e2e/http TestDocumentedSandbox", why: "it is run there as it stands"},
	"docs/tenants.md | An agent's sandbox | console 1":                   {test: "e2e/http TestDocumentedSandbox", why: "it is run there as it stands"},
	"docs/tenants.md | sluice tcp | yaml 1":                              {run: config("tcp", "tenants:\n- {name: shop, clients: 10.128.4.0/22, rules: '*'}\n")},
}
