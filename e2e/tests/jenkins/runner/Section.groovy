/** A block of a pipeline: which names may stand in it, each once, and with what. */
class Section {

    static final Object ANY = new Object()

    private final String where
    private final List<String> allowed
    private final Map<String, Object> found = [:]

    private Section(String where, List<String> allowed) {
        this.where = where
        this.allowed = allowed
    }

    static Map<String, Object> read(String where, Closure content, List<String> allowed) {
        Section section = new Section(where, allowed)
        Section.content(content, section)
        section.found
    }

    /** Runs a block in which there is nothing but what `delegate` knows. */
    static Object content(Closure content, Object delegate) {
        Closure copy = (Closure) content.clone()
        copy.delegate = delegate
        copy.resolveStrategy = Closure.DELEGATE_ONLY
        try {
            copy()
        } catch (MissingMethodException e) {
            String types = e.arguments.collect { it?.class?.simpleName }.join(', ')
            throw new NotUnderstood("${delegate.class.simpleName.toLowerCase()}: there is no $e.method($types)")
        } catch (MissingPropertyException e) {
            throw new NotUnderstood("${delegate.class.simpleName.toLowerCase()}: there is no $e.property")
        }
    }

    Object getAny() {
        ANY
    }

    Object invokeMethod(String name, Object args) {
        if (!(name in allowed)) {
            throw new NotUnderstood("$where: there is no $name; ${allowed.join(', ')} there are")
        }
        if (found.containsKey(name)) {
            throw new NotUnderstood("$where: $name stands there twice")
        }
        Object[] values = args as Object[]
        if (values.length != 1 || !(values[0] instanceof Closure || values[0].is(ANY))) {
            throw new NotUnderstood("$where: $name takes one block")
        }
        found[name] = values[0]
    }

}
