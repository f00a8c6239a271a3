import net.imagej.patcher.LegacyInjector;
import org.python.jsr223.PyScriptEngineFactory;
import org.scijava.Context;
import org.scijava.console.ConsoleService;
import org.scijava.script.AdaptedScriptLanguage;
import org.scijava.script.ScriptService;

import java.util.Arrays;
import java.util.Set;

/** Replacement for Fiji's launcher, called with --ij2 --headless --console --run SCRIPT PARAMETERS, which SciJava parses. */
public class Launcher {
    private static final Set<String> LAUNCHER_OPTIONS = Set.of("--ij2", "--headless", "--console");

    public static void main(String[] arguments) {
        LegacyInjector.preinit(); // must run before any ImageJ class is loaded
        Session.run(Arrays.stream(arguments).filter(word -> !LAUNCHER_OPTIONS.contains(word)).toArray(String[]::new));
    }
}

/** A class of its own, because it loads ImageJ classes. */
class Session {
    static void run(String[] arguments) {
        Context context = new Context();
        context.service(ScriptService.class).getIndex().add(new AdaptedScriptLanguage(new PyScriptEngineFactory()), false);
        context.service(ConsoleService.class).processArgs(arguments);
        context.dispose();
        System.exit(0); // like Fiji, even if the script failed
    }
}
