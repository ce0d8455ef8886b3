/** Jenkins' credentials, from a file of properties: `ID.type`, and what belongs to the type. */
class Credentials {

    private static final Map<String, Map<String, String>> BINDINGS = [
        string: [variable: 'secret'],
        usernamePassword: [usernameVariable: 'username', passwordVariable: 'password'],
        file: [variable: 'file'],
        sshUserPrivateKey: [keyFileVariable: 'file'],
    ]
    private final Properties entries = new Properties()
    private final Log console

    Credentials(File file, Log console) {
        this.console = console
        file.withInputStream { entries.load(it) }
    }

    /** What `string(credentialsId: …)` and its like say, checked. */
    static Map<String, String> binding(String type, Map args) {
        List<String> names = ['credentialsId'] + BINDINGS[type].keySet()
        NotUnderstood.unlessNamed(type, args, names.collectEntries { [it, String] }, names)
        [type: type] + args
    }

    /** Runs the content with the variables of these bindings. */
    void with(List<Map<String, String>> bindings, Closure content) {
        Map<String, String> variables = [:]
        List<String> secrets = []
        bindings.each { binding ->
            String id = binding.credentialsId
            if (entries["${id}.type" as String] != binding.type) {
                throw new Failure("Could not find credentials entry with ID '$id'")
            }
            BINDINGS[binding.type].each { variable, field ->
                String value = entries["$id.$field" as String]
                variables[binding[variable]] = value
                // User names and paths may be seen, unless somebody asks for it otherwise.
                if (field in ['secret', 'password']) {
                    secrets << value
                }
            }
        }
        console.mask(secrets) { content(variables) }
    }

}
