/** The Jenkinsfile says what Jenkins, or this runner, does not know. */
class NotUnderstood extends RuntimeException {

    NotUnderstood(String message) {
        super(message)
    }

    /** Whether the arguments of a step are named as they may be; `allowed` maps each name to its type. */
    static void unlessNamed(String step, Map given, Map<String, Class> allowed, List<String> required) {
        required.findAll { !given.containsKey(it) }.each { throw new NotUnderstood("$step: $it is missing") }
        given.each { name, value ->
            Class type = allowed[name as String]
            if (type == null) {
                throw new NotUnderstood("$step: there is no $name; ${allowed.keySet().join(', ')} there are")
            }
            if (!(type.isInstance(value) || (type == String && value instanceof GString))) {
                throw new NotUnderstood("$step: $name is a ${type.simpleName}, not '$value'")
            }
        }
    }

}
