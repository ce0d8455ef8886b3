/** A declarative pipeline: read whole first, and then run. */
class Pipeline {

    static final List<String> CONDITIONS = ['always', 'aborted', 'failure', 'success', 'unsuccessful', 'cleanup']
    private static final List<String> SECTIONS =
        ['agent', 'options', 'triggers', 'parameters', 'environment', 'stages', 'post']

    private final Build build
    private final Map<String, Closure> conditions = [:]
    private List<Stage> stages = []
    private long seconds = Long.MAX_VALUE

    Pipeline(Build build) {
        this.build = build
    }

    void run(Closure content) {
        Map<String, Object> found = Section.read('pipeline', content, SECTIONS)
        ['agent', 'stages'].findAll { !found[it] }.each { throw new NotUnderstood("pipeline: $it { } is missing") }
        if (found.agent != Section.ANY) {
            throw new NotUnderstood('agent: any is what is known here')
        }
        if (found.parameters) {
            Section.content(found.parameters, new Parameters(build))
        }
        if (found.options) {
            seconds = Options.read(found.options, true).seconds
        }
        if (found.triggers) {
            Section.content(found.triggers, new Triggers())
        }
        if (found.environment) {
            Section.content(found.environment, new Environment(build))
        }
        stages = Stage.read(found.stages)
        if (found.post) {
            conditions.putAll(Section.read('post', found.post, CONDITIONS))
        }
        stages.each { build.stages[it.name] = 'NOT RUN' }
        within(seconds) { stages.each { runStage(it) } }
        CONDITIONS.findAll { conditions[it] && applies(it) }.each { String condition ->
            build.agent.console.line("[Pipeline] { (Declarative: Post Actions: $condition)")
            attempt { new Steps(build).run(conditions[condition]) }
        }
    }

    private void runStage(Stage stage) {
        if (build.result != 'SUCCESS') {
            build.agent.console.line("Stage \"$stage.name\" skipped due to earlier failure(s)")
            return
        }
        build.agent.console.line("[Pipeline] { ($stage.name)")
        build.environment.STAGE_NAME = stage.name
        boolean fine = attempt {
            if (!stage.when || new When(build).holds(stage.when)) {
                within(stage.seconds) { new Steps(build).run(stage.steps) }
                build.stages[stage.name] = 'SUCCESS'
            } else {
                build.agent.console.line("Stage \"$stage.name\" skipped due to when conditional")
                build.stages[stage.name] = 'SKIPPED'
            }
        }
        if (!fine) {
            build.stages[stage.name] = build.result
        }
    }

    private void within(long time, Closure content) {
        time == Long.MAX_VALUE ? content() : build.agent.within(time, content)
    }

    private boolean attempt(Closure content) {
        try {
            content()
            return true
        } catch (Failure e) {
            build.agent.console.line("ERROR: ${e.message}")
            // The first that is wrong decides.
            if (build.result == 'SUCCESS') {
                build.result = e instanceof Agent.Timeout ? 'ABORTED' : 'FAILURE'
            }
            return false
        }
    }

    private boolean applies(String condition) {
        switch (condition) {
            case 'aborted': return build.result == 'ABORTED'
            case 'failure': return build.result == 'FAILURE'
            case 'success': return build.result == 'SUCCESS'
            case 'unsuccessful': return build.result != 'SUCCESS'
            default: return true
        }
    }

}
