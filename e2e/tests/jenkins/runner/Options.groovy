import java.util.concurrent.TimeUnit

/** `options` of the pipeline or of a stage. */
class Options {

    private static final List<String> UNITS = ['SECONDS', 'MINUTES', 'HOURS']

    private final boolean top
    private final Set<String> seen = []
    long seconds = Long.MAX_VALUE

    private Options(boolean top) {
        this.top = top
    }

    static Options read(Closure content, boolean top) {
        Options options = new Options(top)
        Section.content(content, options)
        options
    }

    void timeout(Map args) {
        once('timeout')
        seconds = seconds(args)
    }

    void disableConcurrentBuilds(Map args = [:]) {
        once('disableConcurrentBuilds')
        onTop('disableConcurrentBuilds')
        NotUnderstood.unlessNamed('disableConcurrentBuilds', args, [abortPrevious: Boolean], [])
    }

    void buildDiscarder(Map strategy) {
        once('buildDiscarder')
        onTop('buildDiscarder')
        if (!strategy.containsKey('rotator')) {
            throw new NotUnderstood('buildDiscarder: logRotator(…) is what is known here')
        }
    }

    Map logRotator(Map args) {
        List<String> names = ['numToKeepStr', 'daysToKeepStr', 'artifactNumToKeepStr', 'artifactDaysToKeepStr']
        NotUnderstood.unlessNamed('logRotator', args, names.collectEntries { [it, String] }, [])
        [rotator: args]
    }

    static long seconds(Map args) {
        NotUnderstood.unlessNamed('timeout', args, [time: Integer, unit: String], ['time'])
        String unit = args.unit ?: 'MINUTES'
        if (!(unit in UNITS)) {
            throw new NotUnderstood("timeout: $unit is none of ${UNITS.join(', ')}")
        }
        TimeUnit.valueOf(unit).toSeconds(args.time)
    }

    private void once(String name) {
        if (!seen.add(name)) {
            throw new NotUnderstood("options: $name stands there twice")
        }
    }

    private void onTop(String name) {
        if (!top) {
            throw new NotUnderstood("options of a stage: $name belongs to the pipeline")
        }
    }

}
