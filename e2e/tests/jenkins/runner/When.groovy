/** `when`: whether a stage is run. */
class When {

    private final Build build
    private final List<Boolean> held = []

    When(Build build) {
        this.build = build
    }

    boolean holds(Closure content) {
        Section.content(content, this)
        if (held.empty) {
            throw new NotUnderstood('when: a condition has to be there')
        }
        held.every()
    }

    void expression(Closure content) {
        held << (Section.content(content, new Values(build)) as boolean)
    }

    /** What an expression may look at. */
    static class Values {

        private final Build build

        Values(Build build) {
            this.build = build
        }

        Map<String, Object> getParams() {
            build.params.asImmutable()
        }

        Object getEnv() {
            build.env
        }

    }

}
