/** `environment`: variables of all steps. */
class Environment {

    private final Build build

    Environment(Build build) {
        this.build = build
    }

    Object getProperty(String name) {
        Build of = this.@build
        switch (name) {
            case 'env': return of.env
            case 'params': return of.params
            default: throw new NotUnderstood("environment: $name is not known here; env and params are")
        }
    }

    void setProperty(String name, Object value) {
        if (!(value instanceof CharSequence)) {
            throw new NotUnderstood("environment: $name is a text, not '$value'")
        }
        this.@build.environment[name] = value as String
    }

}
