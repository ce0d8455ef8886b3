/** What a person sees of a build. Secrets are masked while they are bound, as Jenkins does. */
class Log {

    private final List<String> secrets = [].asSynchronized()

    void line(String text) {
        String shown = text
        secrets.each { shown = shown.replace(it, '****') }
        synchronized (System.out) {
            System.out.println(shown)
            System.out.flush()
        }
    }

    void mask(List<String> values, Closure content) {
        secrets.addAll(values)
        try {
            content()
        } finally {
            values.each { secrets.remove(it) }
        }
    }

    /** A secret in the text of a step would be on a command line, and in files of the agent. */
    void refuseSecrets(String step, String text) {
        if (secrets.any { text.contains(it) }) {
            throw new NotUnderstood("$step: a secret is in its text; let the shell read it from its environment")
        }
    }

}
