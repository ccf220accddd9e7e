# Runs a script of a vendor's tool with commands that only note that they were called:
#   tclsh stubs.tcl RECORD COMMANDS SCRIPT ARGUMENT...
# RECORD gets a line a call: its words, each in hexadecimal of UTF-8. COMMANDS are all that the tool has; any
# other is an error, as it is there. A call gives back COMMAND:FIRST, its first word that is no option.
set hwgen_record [open [lindex $argv 0] w]
proc hwgen_note {words} {
    global hwgen_record
    set line {}
    foreach word $words { lappend line x[binary encode hex [encoding convertto utf-8 $word]] }
    puts $hwgen_record [join $line " "]
}
proc hwgen_stub {name args} {
    hwgen_note [linsert $args 0 $name]
    set first {}
    foreach word $args { if {![string match {-*} $word]} { set first $word; break } }
    switch -- $name {
        ipx::get_memory_maps { return [list ipx::memory_map:s_axi_control] }
        get_property { return [lindex [split [lindex $args 1] :] end] }
        default { return $name:$first }
    }
}
foreach name [lindex $argv 1] {
    if {[string match *::* $name]} { namespace eval [namespace qualifiers $name] {} }
    proc ::$name args "hwgen_stub $name {*}\$args"
}
foreach name {::quartus::project ::quartus::flow qsys} { package provide $name 99.0 }
proc package {args} { hwgen_note [linsert $args 0 package] }
set script [lindex $argv 2]
set argv [lrange $argv 3 end]
set argc [llength $argv]
set argv0 $script
source $script
close $hwgen_record
