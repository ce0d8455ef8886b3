/** A stage, as it stands in the pipeline. */
class Stage {

    String name
    Closure steps
    Closure when
    long seconds = Long.MAX_VALUE

    static List<Stage> read(Closure content) {
        Reader reader = new Reader()
        Section.content(content, reader)
        if (reader.stages.empty) {
            throw new NotUnderstood('stages: one stage at least has to be there')
        }
        reader.stages
    }

    static class Reader {

        private final List<Stage> stages = []

        void stage(String name, Closure content) {
            if (stages.any { it.name == name }) {
                throw new NotUnderstood("stage '$name' stands there twice")
            }
            Map<String, Object> found = Section.read("stage '$name'", content, ['options', 'when', 'steps'])
            if (!found.steps) {
                throw new NotUnderstood("stage '$name': steps { } is missing")
            }
            long seconds = found.options ? Options.read(found.options, false).seconds : Long.MAX_VALUE
            stages << new Stage(name: name, steps: found.steps, when: found.when, seconds: seconds)
        }

    }

}
